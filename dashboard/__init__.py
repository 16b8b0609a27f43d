"""What people see: pages, the JSON API and figures, all read from the store; people act by rows."""

from starlette.types import ASGIApp


def static_app() -> ASGIApp:
    """The files that pages load, to be mounted at /static; nothing comes from elsewhere."""
    from dashboard.assets import serve

    return serve()
