"""The first questions to a process, asked by itself: what is made once is there when the first reader comes."""

import asyncio
import logging
from typing import Any

from starlette.types import ASGIApp, Message

PATHS = ("/api/series", "/")  # between them they need all routes, the libraries of sketches, and the most of templates


def warm_up(app: ASGIApp) -> None:
    """Asks the application for an answer and a page before it serves; nobody sees what they are.

    Where people have keys the answers are refusals, and only what is before them is made. What fails is logged.
    """
    import datasketches  # noqa: F401  (a store without traffic needs it only with the first call)

    try:
        asyncio.run(_ask_all(app))
    except Exception:  # whatever is wrong with a page, the others can be served
        logging.getLogger("driftline.web").exception("A page that was asked for at the start failed.")


async def _ask_all(app: ASGIApp) -> None:
    for path in PATHS:
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": "GET",
            "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 0), "state": {},
        }  # fmt: skip
        await app(scope, _nothing_more, _unheard)


async def _nothing_more() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _unheard(_message: Message) -> None:
    pass
