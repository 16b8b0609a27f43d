"""One line of the table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measured figure, what was asked of it (empty: reported only) and whether it held."""

    what: str
    measured: str
    asked: str = ""
    held: bool | None = None

    def line(self) -> str:
        """The row as people read it."""
        mark = {True: "ok  ", False: "MISS", None: "    "}[self.held]
        return f"{mark} {self.what:<92} {self.measured:<34} {self.asked}"
