"""The composed web application: collector at /v1, pages and /api of the dashboard, health for both, on one port."""

import logging
import socket
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from driftline import __version__, heap
from driftline.cli.serving import prepared
from driftline.errors import BadInput, DriftlineError, NotAllowed, NotFound
from driftline.settings import settings
from driftline.store.engine import explain_failure, reading
from driftline.store.projects import any_key

if TYPE_CHECKING:
    from collector.core import Collector

BACKLOG = 512
DRAIN_S = 5
FOR_PROGRAMS = ("/v1/", "/api/", "/healthz", "/readyz", "/metrics", "/static/")


def application(*, collector: bool, dashboard: bool) -> FastAPI:
    """The web application of the asked rooms."""
    app = FastAPI(
        title="Driftline", version=__version__, docs_url=None, redoc_url=None, separate_input_output_schemas=False
    )
    from dashboard.guard import Guard
    from dashboard.health import routes as health

    if collector:
        from collector.core import Collector
        from collector.http import routes as collecting

        taking = Collector()
        app.include_router(collecting(taking, _over_grpc))
        # a collector works without a broker, and must not be taken out of service when only that is away
        app.include_router(health(own=taking.figures, has_room=lambda: taking.has_room, needs_broker=dashboard))
    else:
        app.include_router(health())
    app.add_middleware(Guard)  # a collector without keys takes records from this machine, not from pages in its browser
    if dashboard:
        _add_dashboard(app)
    app.state.has_pages = dashboard
    app.add_exception_handler(DriftlineError, _problem)
    app.add_exception_handler(OperationalError, _database_problem)
    app.add_exception_handler(404, _nothing_here)
    app.add_exception_handler(405, _not_allowed)
    return app


def _over_grpc(collector: "Collector") -> AbstractAsyncContextManager[None]:
    from collector.otlp_grpc import serving_if_possible

    chosen = settings()
    insist = "grpc_port" in chosen.model_fields_set
    return serving_if_possible(collector, chosen.host, chosen.grpc_port, insist=insist)


def _add_dashboard(app: FastAPI) -> None:
    import dashboard
    from collector.redact import redact
    from dashboard import api, pages

    app.state.redact = redact  # rooms do not import each other
    app.include_router(api.routes())
    app.include_router(pages.routes())
    app.mount("/static", dashboard.static_app(), name="static")


async def _problem(request: Request, error: Exception) -> Response:
    """RFC 9457: application/problem+json for programs, a page for people."""
    assert isinstance(error, DriftlineError)
    path = request.url.path
    if request.app.state.has_pages and not path.startswith(FOR_PROGRAMS):
        from dashboard.pages import error_page

        return error_page(request, error)
    headers = {"retry-after": str(getattr(error, "retry_after_s", 1))} if error.status in (429, 503) else {}
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="driftline"'
    return JSONResponse(error.problem(), error.status, headers, media_type="application/problem+json")


async def _database_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, OperationalError)
    logging.getLogger("driftline.web").error("%s", error.orig)
    return await _problem(request, explain_failure(error))


async def _nothing_here(request: Request, _error: Exception) -> Response:
    return await _problem(request, NotFound("page", request.url.path))


async def _not_allowed(request: Request, error: Exception) -> Response:
    """Says which methods a path has; where they are two routes, the router would name those of the first it finds."""
    assert isinstance(error, HTTPException)
    path, described = request.url.path, request.app.openapi()["paths"]
    fitting = [path] if path in described else [one for one in described if compile_path(one)[0].match(path)]
    methods = sorted({method.upper() for one in fitting for method in described[one]})
    allowed = ", ".join(methods) or (error.headers or {}).get("Allow", "")
    response = await _problem(request, NotAllowed(f"{path} answers {allowed}, and not {request.method}."))
    response.headers["allow"] = allowed
    return response


def serve(*, collector: bool, dashboard: bool, descriptor: int | None = None) -> int:
    """Serves until told to stop, on a socket that is open already where its descriptor is given.

    Raises:
        BadInput: The port is in use, or the address is not loopback while nobody has a key.
    """
    name = "web" if collector and dashboard else "collect" if collector else "show"
    heap.hold_little()
    with prepared(name):
        refuse_open_doors()
        given = descriptor is not None
        listener = socket.socket(fileno=descriptor) if given else listen(settings().host, settings().port)
        import uvicorn

        from driftline.cli.heads import BoundedHeads

        app = application(collector=collector, dashboard=dashboard)
        if dashboard:
            from dashboard.warming import warm_up

            warm_up(app)
        heap.settle()
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=DRAIN_S, timeout_keep_alive=75,
            server_header=False, date_header=True, ws="none", http=BoundedHeads,
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def refuse_open_doors() -> None:
    """Refuses to serve the network before anybody has a key.

    Raises:
        BadInput: Says how to make one.
    """
    with reading() as session:
        if not settings().on_loopback and not any_key(session):
            raise BadInput(
                f"{settings().host} can be reached from other machines, and nobody has a key yet. "
                "Make one with `driftline key create NAME --scopes admin`, or set DRIFTLINE_HOST=127.0.0.1."
            )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        BadInput: The port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise BadInput(
            f"Cannot listen on {host}:{port} ({error.strerror}). "
            "Stop what uses the port, or choose another one with DRIFTLINE_PORT."
        ) from None
    listener.listen(BACKLOG)
    return listener
