"""HTTP as uvicorn reads it, with two bounds that it lacks: how long a head may be, and where it ends.

Without the first, headers that never end fill the memory of a process before anyone has shown a key. Without the
second, trailers behind a body are taken for headers, and may come before or after the application has read those.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024  # bytes of a request's first line, its headers and trailers


class BoundedHeads(HttpToolsProtocol):
    """A connection on which a request with a longer head is answered 400, and closed."""

    _head = 0  # bytes of this request's head as far as they are read
    _unread = 0  # bytes since the parser last came to an end of something

    def data_received(self, data: bytes) -> None:
        """Parses what came in."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head = self._unread = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of its path was read."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or a trailer was read."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: what comes after it is no part of it."""
        self._unread = 0
        super().on_headers_complete()
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """A part of the body was read."""
        self._unread = 0
        super().on_body(body)

    def _count(self, n: int) -> None:
        self._unread = 0
        self._head += n
        if self._head > MAX_HEAD:
            raise ValueError("The head of the request is too long.")  # the parser's, which answers 400
