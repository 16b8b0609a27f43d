"""Requests that do not fit: told in a sentence like every other error, as problem+json."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from driftline.errors import BadInput


class Wish(BaseModel):
    """What a request asks for. Nothing is guessed: "true" is no boolean, "3" is no number."""

    model_config = ConfigDict(strict=True)


_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is, what was needed, what to do."},
    },
}
_WHEN = {
    401: "The key is missing, unknown or revoked.",
    403: "The key or the person lacks the scope, or it is another project's.",
    404: "It is not there, or not yours.",
    409: "The state has moved on, or the name is taken.",
    422: "Something that was handed in cannot be used.",
    503: "The store does not answer; ask again after the seconds in Retry-After.",
}
# what any request to the API may be answered, for OpenAPI
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": when, "content": {"application/problem+json": {"schema": _PROBLEM}}}
    for status, when in _WHEN.items()
}

UNREADABLE = 400  # what FastAPI answers by itself to bytes that are no text; nothing of ours does

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
            except HTTPException as error:
                if error.status_code == UNREADABLE:
                    raise BadInput("The body cannot be read: it must be JSON in UTF-8. See /docs.") from None
                raise

        return answer


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"][1:]) or "the body"
    return f"`{place}` cannot be used: {first['msg'][0].lower()}{first['msg'][1:]}. See /docs."
