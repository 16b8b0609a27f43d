"""Who sends, as far as reading a request needs to know: apart, so that a process that only reads stays small."""

from dataclasses import dataclass

from collector.rows import Privacy


@dataclass(frozen=True, slots=True)
class Sender:
    """The project a request writes to, and its rule for texts. `collectors` share what its key may send a minute."""

    project_id: int
    privacy: Privacy
    name: str = "local"
    calls_per_minute: int | None = None
    collectors: int = 1
