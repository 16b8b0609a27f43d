"""The files that pages load: served from here, compressed once, cached by browsers for good under their hash."""

import gzip
import hashlib
import mimetypes
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

STATIC = Path(__file__).parent / "static"
_WORTH_PACKING = (".css", ".js", ".svg", ".txt")
_YEAR_S = 31_536_000


@lru_cache(maxsize=1)
def files() -> dict[str, Path]:
    """What can be asked for: name → file. Plotly's script comes from its own package."""
    own = {str(path.relative_to(STATIC)): path for path in STATIC.rglob("*") if path.is_file()}
    plotly = find_spec("plotly")  # found without importing it
    assert plotly is not None
    assert plotly.origin is not None
    return own | {"plotly.min.js": Path(plotly.origin).parent / "package_data" / "plotly.min.js"}


@lru_cache(maxsize=64)
def _packed(name: str) -> tuple[bytes, bytes | None, str]:
    """A file's bytes, the same gzipped where that helps, and the first half of its hash."""
    content = files()[name].read_bytes()
    packed = gzip.compress(content, 6) if name.endswith(_WORTH_PACKING) else None
    return content, packed, hashlib.sha256(content).hexdigest()[:16]


@lru_cache(maxsize=64)
def url(name: str) -> str:
    """The address of a file that changes whenever its content does.

    >>> url("app.css").startswith("/static/app.css?v=")
    True
    """
    return f"/static/{name}?v={hashlib.sha256(files()[name].read_bytes()).hexdigest()[:16]}"


def _answer(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in files():
        return Response("There is no such file.", status_code=404, media_type="text/plain")
    content, packed, digest = _packed(name)
    current = request.query_params.get("v") == digest or name.startswith("fonts/")  # those never change
    headers = {
        "ETag": f'"{digest}"',
        "Vary": "Accept-Encoding",
        "Cache-Control": f"public, max-age={_YEAR_S}, immutable" if current else "no-cache",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = packed, "gzip"
    media_type = "font/woff2" if name.endswith(".woff2") else mimetypes.guess_type(name)[0]
    return Response(content, media_type=media_type or "application/octet-stream", headers=headers)


def serve() -> Starlette:
    """The application to mount at /static."""
    return Starlette(routes=[Route("/{name:path}", _answer, methods=["GET", "HEAD"])])
