"""The embedded broker: a folder per queue, a file per message, for one machine without a server.

kombu's own filesystem transport lets a consumer take a file that its producer has not written yet, which ends the
worker, and rewrites shared tables in place. Here a message appears by an atomic rename, and whoever removes it has it.
Delivery is at most once, which is enough: messages are hints, Job rows are the truth.
"""

import json
import logging
import time
import uuid
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, virtual

NAME = "driftline-embedded"
log = logging.getLogger("driftline.queue")


class Channel(virtual.Channel):
    """Queues under the folder that the transport option `folder` names."""

    def _folder(self, queue: str) -> Path:
        folder = Path(self.connection.client.transport_options["folder"]) / queue
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        folder = self._folder(queue)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}"
        unfinished = folder / f".{name}"
        unfinished.write_text(json.dumps(message), encoding="utf-8")
        unfinished.rename(folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        folder = self._folder(queue)
        for path in sorted(_finished(folder)):
            with suppress(FileNotFoundError):  # another worker has it
                content = path.read_bytes()
                path.unlink()
                try:
                    return json.loads(content)
                except ValueError:  # what a machine that lost power may leave; the sweeper sends the hint again
                    log.warning("A message in the queue %s could not be read and was dropped.", queue)
        raise Empty

    def _size(self, queue: str) -> int:
        return len(_finished(self._folder(queue)))

    def _purge(self, queue: str) -> int:
        removed = 0
        for path in self._folder(queue).iterdir():
            with suppress(FileNotFoundError):
                path.unlink()
                removed += 1
        return removed

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return True

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        """Every queue has an exchange of its own name, so there is nothing to look up."""
        return [(exchange, "", exchange)]


def _finished(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


class Transport(virtual.Transport):
    """kombu's view of it; `polling_interval` seconds pass between two looks at empty queues."""

    Channel = Channel
    implements = virtual.Transport.implements.extend(asynchronous=False, exchange_type=frozenset(["direct"]))
    driver_type = driver_name = NAME
    global_state = virtual.BrokerState()  # type: ignore[no-untyped-call]

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)  # type: ignore[no-untyped-call]
        self.state = self.global_state

    def driver_version(self) -> str:
        """Shown by Celery's reports."""
        return "1"


def register() -> None:
    """Makes kombu know the broker by its name."""
    TRANSPORT_ALIASES[NAME] = f"{__name__}:Transport"
