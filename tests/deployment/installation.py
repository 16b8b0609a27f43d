"""An installation as compose.yaml describes it, as processes of this machine on a real PostgreSQL and RabbitMQ."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from packaging.requirements import Requirement
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = os.environ.get("DRIFTLINE_TEST_POSTGRES", "postgresql+psycopg://root@/postgres?host=/var/run/postgresql")
RABBITMQ = os.environ.get("DRIFTLINE_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")
REDIS = os.environ.get("DRIFTLINE_TEST_REDIS", "redis://127.0.0.1:6379/13")
HIDING = Path(__file__).parent / "image_packages"
PATIENCE_S = 90.0


@contextmanager
def own_database() -> Iterator[str]:
    """The URL of a database of our own on the PostgreSQL server; skips where none answers."""
    name = f"driftline_compose_{secrets.token_hex(6)}"
    server = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")

    def run(statement: str) -> None:
        with server.connect() as connection:
            connection.execute(text(statement))

    try:
        run(f"CREATE DATABASE {name}")
    except OperationalError as error:
        pytest.skip(f"no PostgreSQL server answers: {error.orig}")
    try:
        yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    finally:
        run(f"DROP DATABASE {name} WITH (FORCE)")
        server.dispose()


@contextmanager
def own_broker() -> Iterator[str]:
    """The URL of a virtual host of our own on RabbitMQ, else of an empty Redis database; skips without both."""
    control, name = shutil.which("rabbitmqctl"), f"driftline-{secrets.token_hex(6)}"
    if control is not None and _answers(RABBITMQ):
        user = re.match(r"amqp://([^:]+):", RABBITMQ)
        made = subprocess.run([control, "--quiet", "add_vhost", name], capture_output=True, check=False)
        if made.returncode == 0 and user is not None:
            permit = [control, "--quiet", "set_permissions", "--vhost", name, user[1], ".*", ".*", ".*"]
            try:
                subprocess.run(permit, check=True, capture_output=True)
                yield RABBITMQ.rpartition("/")[0] + f"/{name}" if not RABBITMQ.endswith("//") else RABBITMQ[:-1] + name
            finally:
                subprocess.run([control, "--quiet", "delete_vhost", name], check=False, capture_output=True)
            return
    if not _answers(REDIS):
        pytest.skip(f"neither RabbitMQ at {RABBITMQ} (with rabbitmqctl to make a virtual host) nor Redis answers")
    import redis

    store = redis.Redis.from_url(REDIS)
    if store.dbsize():
        pytest.skip(f"the Redis database {REDIS} is not empty")
    try:
        yield REDIS
    finally:
        store.flushdb()


def _answers(url: str) -> bool:
    try:
        with Connection(url, connect_timeout=2) as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
    except Exception:  # noqa: BLE001 - each transport has errors of its own, or is not installed
        return False
    return True


def hidden_from(target: str) -> str:
    """The modules that are installed here and not in the image of this target, comma-separated."""
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    extras = re.search(rf"AS {target}-packages\n.*?requirements\.py ([a-z ]+) >", dockerfile, re.DOTALL)
    assert extras is not None, target
    asked = subprocess.run(
        [sys.executable, "docker/requirements.py", *extras[1].split()], cwd=ROOT, capture_output=True, text=True,
        check=True,
    ).stdout.splitlines()  # fmt: skip
    carried = {"driftline", "pip", "setuptools", "pytest-cov"}
    waiting = [Requirement(line) for line in asked]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        name = _canonical(one.name)
        if (name, frozenset(one.extras)) in seen or not _applies(one, {""}):
            continue
        seen.add((name, frozenset(one.extras)))
        with suppress(metadata.PackageNotFoundError):
            needed = [Requirement(line) for line in metadata.requires(name) or ()]
            waiting += [_without_marker(r) for r in needed if _applies(r, {"", *one.extras})]
            carried.add(name)
    modules = metadata.packages_distributions()
    return ",".join(module for module, owners in modules.items() if not {_canonical(one) for one in owners} & carried)


def _applies(wanted: Requirement, extras: set[str]) -> bool:
    return wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras)


def _without_marker(wanted: Requirement) -> Requirement:
    wanted.marker = None
    return wanted


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class Installation:
    """The services, each with the command and environment that compose.yaml gives it; hosts and ports are ours."""

    def __init__(self, services: Mapping[str, dict[str, Any]], folder: Path, database: str, broker: str) -> None:
        self._services, self._folder = services, folder
        self._instead = {"DRIFTLINE_DATABASE_URL": database, "DRIFTLINE_BROKER_URL": broker}
        self.ports = {name: _free_port() for name in ("collector", "dashboard")}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, name: str, *, loopback: bool = True) -> dict[str, str]:
        """The service's environment: what the image sets, what compose sets, and our own addresses for theirs."""
        service = self._services[name]
        told = {key: str(value) for key, value in service["environment"].items()}
        assert "@postgres:5432/driftline" in told["DRIFTLINE_DATABASE_URL"]
        assert "@rabbitmq:5672/" in told["DRIFTLINE_BROKER_URL"]
        told |= self._instead | {"DRIFTLINE_DATA_DIR": str(self._folder / "data")}
        if name in self.ports:
            assert told["DRIFTLINE_HOST"] == "0.0.0.0"
            told |= {"DRIFTLINE_PORT": str(self.ports[name])} | ({"DRIFTLINE_HOST": "127.0.0.1"} if loopback else {})
        plain = {key: os.environ[key] for key in ("PATH", "LANG", "TZ") if key in os.environ}
        hiding = {"PYTHONPATH": str(HIDING), "DEPLOYMENT_TEST_HIDDEN": hidden_from(service["build"]["target"])}
        return plain | {"HOME": str(self._folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | told | hiding

    def command(self, name: str) -> list[str]:
        """The service's command, as the image's entry point gets it."""
        return [sys.executable, "-m", "driftline", *map(str, self._services[name]["command"])]

    def run(self, name: str, *words: str, loopback: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the service's own command, or these words of `driftline`, in its environment to the end."""
        command = [sys.executable, "-m", "driftline", *words] if words else self.command(name)
        return subprocess.run(
            command, env=self.environment(name, loopback=loopback), cwd=self._folder, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def tell(self, name: str, *words: str) -> Any:
        """What a `driftline … --json` command answers in the service's environment."""
        done = self.run(name, *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, name: str, replica: int = 1) -> None:
        """Starts a service, or one more of it."""
        with (self._folder / f"{name}-{replica}.log").open("wb") as log:
            self.running[f"{name}-{replica}"] = subprocess.Popen(
                self.command(name), env=self.environment(name), cwd=self._folder, stdout=log, stderr=log
            )

    def healthy(self, name: str) -> bool:
        """Whether the health check of the service's image, run in its environment, passes."""
        target = self._services[name]["build"]["target"]
        dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
        check = re.search(rf"AS {target}\n.*?HEALTHCHECK.*?CMD (\[.*?\])\n", dockerfile, re.DOTALL)
        assert check is not None
        first, *rest = json.loads(check[1])
        command = [sys.executable, "-m", "driftline", *rest] if first == "driftline" else [sys.executable, *rest]
        return subprocess.run(command, env=self.environment(name), capture_output=True, check=False).returncode == 0

    def log(self, name: str) -> str:
        """What a running service has said."""
        return (self._folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Kills what is left."""
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port
