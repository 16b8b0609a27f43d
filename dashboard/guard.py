"""Who may even ask: Host names against DNS rebinding, origins against forged clicks, headers against injection.

A page of another site can make a browser send requests to a server on this very machine. It can neither choose the Host
header (except by rebinding its own name, which the Host check refuses) nor hide where it comes from.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftline.settings import settings

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "QUERY", "TRACE"})
# machines do; the answers carry nothing secret
ASKED_BY_ADDRESS = ("/v1/", "/api/public/", "/healthz", "/readyz", "/metrics")
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # plotly.js writes a style element and style attributes
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware around the whole web application. It reads headers alone and never touches a body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 400 (Host) or 403 (forged) in plain text."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        if needs_known_host(path, headers) and host_name(headers.get("host", "")) not in settings().hosts:
            await _refuse(send, 400, "This Host name is not served here. Add it to DRIFTLINE_ALLOWED_HOSTS.")
        elif scope["method"] not in SAFE and is_forged(path, headers):
            await _refuse(send, 403, "This request comes from another site and was not carried out.")
        else:
            await self.app(scope, receive, send if path.startswith("/v1/") else _with_headers(send))


def needs_known_host(path: str, headers: Headers) -> bool:
    """Whether the Host must be one of ours: not where machines ask by address, unless a browser does so without a key.

    A page that has rebound its own name to this machine looks like one of our own, so its records would be taken.
    """
    if not path.startswith(ASKED_BY_ADDRESS):
        return True
    return "authorization" not in headers and ("origin" in headers or "sec-fetch-site" in headers)


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets.

    >>> host_name("[::1]:8400"), host_name("Driftline.example:80")
    ('::1', 'driftline.example')
    """
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_forged(path: str, headers: Headers) -> bool:
    """Whether an unsafe request may have been sent by a page of another site.

    Browsers say where a request comes from: `Sec-Fetch-Site`, or at least `Origin`, which scripts cannot set. A request
    with a key in `Authorization` cannot be forged. Without any of these it is no browser's: fine for the API and the
    collector, never for a page's form.
    """
    if "authorization" in headers and path.startswith(("/api/", "/v1/")):
        return False
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site != "same-origin"
    if origin is not None:
        return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    return not path.startswith(("/api/", *ASKED_BY_ADDRESS))


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = sentence.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
