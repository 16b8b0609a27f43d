"""How much the process may hold at once, in bytes: what is beyond is refused early instead of being collected."""

from threading import Lock

from driftline.errors import StoreUnavailable

ROOM = 48 * 2**20  # of request bodies, inflated, from the first byte read to the commit


class Overloaded(StoreUnavailable):
    """Too much is on its way to the store. Senders try again; nothing of the request was kept."""

    def __init__(self) -> None:
        super().__init__("The collector has as much on its way to the store as it may hold. Send again in a second.")


class Budget:
    """Bytes taken and given back, by any thread."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.taken = 0
        self._lock = Lock()

    def take(self, n: int) -> None:
        """Takes `n` bytes.

        Raises:
            Overloaded: They are not left.
        """
        with self._lock:
            if self.taken + n > self.room:
                raise Overloaded
            self.taken += n

    def owe(self, n: int) -> None:
        """Takes bytes that are held already, room or not."""
        with self._lock:
            self.taken += n

    def give_back(self, n: int) -> None:
        """Returns bytes that were taken."""
        with self._lock:
            self.taken -= n
