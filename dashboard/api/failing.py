"""Requests that do not fit: told in a sentence like every other error, as problem+json."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from driftline.errors import BadInput

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ApiRoute(APIRoute):
    """A route that names the place of what cannot be used."""

    def get_route_handler(self) -> Handler:
        """The handler, with what does not fit the schema raised as BadInput."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise BadInput(_sentence(error)) from None

        return answer


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"][1:]) or "the body"
    return f"`{place}` cannot be used: {first['msg'][0].lower()}{first['msg'][1:]}. See /docs."
