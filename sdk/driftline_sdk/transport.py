"""One connection to the collector: gzip, keep-alive, proxies, and an answer instead of an exception."""

from __future__ import annotations

import base64
import http.client
import io
import os
import time
import zlib
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

_MOST_ANSWER_BYTES = 4 << 20
_LONGEST_WAIT_S = 300.0
_GONE = (http.client.RemoteDisconnected, http.client.BadStatusLine, ConnectionError)


class Answer(NamedTuple):
    """What the collector said; status 0 when it said nothing, with the reason in `error`."""

    status: int
    body: bytes = b""
    retry_after_s: float | None = None
    error: str = ""


class _InTime(io.RawIOBase):
    """What comes from a socket until a moment (monotonic seconds): a server that trickles must not hold us for ever."""

    def __init__(self, incoming: io.BufferedReader, socket: Any, until: float) -> None:
        self._incoming = incoming
        self._socket = socket
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer took too long")
        self._socket.settimeout(left_s)
        return self._incoming.readinto1(buffer)

    def close(self) -> None:
        self._incoming.close()
        super().close()


class Transport:
    """Posts bodies over a connection that is kept open; used by one thread at a time.

    `timeout_s` is for the request to go out, and again for all of its answer to come in.
    """

    def __init__(self, endpoint: str, api_key: str) -> None:
        parts = urlsplit(endpoint)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._secure else 80)
        self._path = parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None
        self._prefix = ""
        self._timeout_s = 0.0
        self._headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Accept": "application/json",
            "User-Agent": "driftline-sdk-python",
        }
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def post(self, path: str, body: bytes, timeout_s: float) -> Answer:
        """Sends one JSON body. Never raises; a connection that went stale while idle is replaced once."""
        reused = self._connection is not None
        try:
            compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
            zipped = compressor.compress(body) + compressor.flush()
            try:
                return self._exchange(path, zipped, timeout_s)
            except _GONE:
                self.close()
                if not reused:
                    raise
                return self._exchange(path, zipped, timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            return Answer(0, error=f"{type(error).__name__}: {error}")

    def get(self, path: str, etag: str | None, timeout_s: float) -> tuple[int, str | None, bytes]:
        """Status, ETag and body of a GET; status 0 when nobody answered. With an `etag`, 304 means nothing changed."""
        headers = {name: value for name, value in self._headers.items() if not name.startswith("Content-")}
        if etag:
            headers["If-None-Match"] = etag
        for attempt in (1, 2):
            reused = self._connection is not None
            try:
                connection = self._opened(timeout_s)
                connection.request("GET", self._prefix + self._path + path, headers=headers)
                response = connection.getresponse()
                content = response.read(_MOST_ANSWER_BYTES)
                if response.will_close or not response.isclosed():
                    self.close()
                return response.status, response.getheader("ETag"), content
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                if attempt == 2 or not reused or not isinstance(error, _GONE):
                    return 0, None, b""
        return 0, None, b""

    def close(self) -> None:
        """Closes the connection; the next post opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, path: str, zipped: bytes, timeout_s: float) -> Answer:
        connection = self._opened(timeout_s)
        try:
            connection.request("POST", self._prefix + self._path + path, zipped, self._headers)
        except (BrokenPipeError, ConnectionResetError):
            if connection.sock is None:
                raise
            # A server that refuses a large body answers and hangs up before it has read all of it.
        response = connection.getresponse()
        content = response.read(_MOST_ANSWER_BYTES)
        if response.will_close or not response.isclosed():
            self.close()
        return Answer(response.status, content, _retry_after_s(response.getheader("Retry-After")))

    def _opened(self, timeout_s: float) -> http.client.HTTPConnection:
        self._timeout_s = timeout_s
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect(timeout_s)
            connection.response_class = self._answer_in_time  # type: ignore[assignment]
        elif connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return connection

    def _answer_in_time(self, socket: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(socket, *args, **kwargs)
        raw = _InTime(response.fp, socket, time.monotonic() + self._timeout_s)
        response.fp = io.BufferedReader(raw)
        return response

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        proxy = self._proxy()
        host, port = (proxy.hostname or "", proxy.port or 80) if proxy else (self._host, self._port)
        signed = _signed(proxy)
        if not self._secure:
            if proxy:
                self._prefix = f"http://{self._host}:{self._port}"
                self._headers.update(signed)
            return http.client.HTTPConnection(host, port, timeout=timeout_s)
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s)
        if proxy:
            connection.set_tunnel(self._host, self._port, signed)
        return connection

    def _proxy(self) -> SplitResult | None:
        if not any(name.lower().endswith("_proxy") for name in os.environ):
            return None
        from urllib.request import getproxies, proxy_bypass  # 20 ms, for those who have a proxy

        address = getproxies().get("https" if self._secure else "http")
        if not address or proxy_bypass(f"{self._host}:{self._port}"):
            return None
        return urlsplit(address if "//" in address else "//" + address)


def _signed(proxy: SplitResult | None) -> dict[str, str]:
    """The header that a proxy with a user name in its address asks for."""
    if proxy is None or proxy.username is None:
        return {}
    words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": "Basic " + base64.b64encode(words).decode()}


def _retry_after_s(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which has a number or a date."""
    if not header:
        return None
    try:
        wait_s = float(header)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(wait_s, 0.0), _LONGEST_WAIT_S) if wait_s == wait_s else None
