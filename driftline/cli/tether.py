"""Children that end with their parent, however it dies: they hold one end of a pipe, and stop when it closes."""

import os
import signal
import threading


def tie(descriptor: int | None) -> None:
    """Stops this process in an orderly way (SIGTERM) as soon as the other end of the pipe is closed."""
    if descriptor is None:
        return

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="tether", daemon=True).start()
