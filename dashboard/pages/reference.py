"""The API's reference, made from its own OpenAPI document."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, page

router = APIRouter(route_class=PageRoute)


@router.get("/docs")
def reference(request: Request, caller: Viewer) -> Response:
    """Every operation: what it does, what it takes, who may."""
    document = request.app.openapi()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            groups.setdefault((operation.get("tags") or ["other"])[0], []).append(
                {
                    "path": path,
                    "method": method.upper(),
                    "summary": operation.get("summary", ""),
                    "about": operation.get("description", ""),
                    "parameters": operation.get("parameters", []),
                    "body": _fields(document, body),
                }
            )
    return page(request, caller, "reference.html", groups=groups)


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, str]:
    """Names of a body's fields and what is said of them."""
    for choice in [schema, *schema.get("anyOf", [])]:
        name = choice.get("$ref", "").rpartition("/")[2]
        if name:
            properties = document["components"]["schemas"][name].get("properties", {})
            return {key: field.get("description", "") for key, field in properties.items()}
    return {}
