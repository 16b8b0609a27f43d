"""What a page is when it cannot be shown: it says why, or where to sign in."""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlencode

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dashboard.views import environment
from driftline.errors import BadInput, DriftlineError, NotFound, Unauthenticated
from driftline.store.engine import explain_failure

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PageRoute(APIRoute):
    """A route whose failures are pages, whatever application it is part of."""

    def get_route_handler(self) -> Handler:
        """The handler, with what an operator can mend turned into a page."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except DriftlineError as error:
                return error_page(request, error)
            except OperationalError as error:
                return error_page(request, explain_failure(error))
            except RequestValidationError as error:
                where, *_, name = error.errors()[0]["loc"]
                missing = NotFound("page", request.url.path, ["/"])
                return error_page(request, missing if where == "path" else BadInput(f"The field {name} is needed."))

        return answer


def error_page(request: Request, error: DriftlineError) -> Response:
    """The page for what went wrong; whoever has to sign in first is sent to do so."""
    if isinstance(error, Unauthenticated):
        if "hx-request" in request.headers:
            return Response(status_code=401, headers={"HX-Redirect": "/login"})
        to = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        where = "/login?" + urlencode({"to": to if request.method == "GET" else "/"})
        return RedirectResponse(where, status_code=303)
    html = environment().get_template("error.html").render(error=error, status=error.status)
    return HTMLResponse(html, status_code=error.status, headers={"Cache-Control": "no-store"})
