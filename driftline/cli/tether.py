"""Children that end with their parent, however it dies: they hold one end of a pipe, and stop when it closes."""

import os
import signal
import threading
import time

GRACE_S = 12.0  # the supervisor's own patience with a child


def tie(descriptor: int | None) -> None:
    """Stops this process in an orderly way (SIGTERM) as soon as the other end of the pipe is closed.

    One that has not ended after `GRACE_S`, because of a long job in hand, ends at once: the job is taken up again.
    """
    if descriptor is None:
        return

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="tether", daemon=True).start()
