"""The deployment as Docker Compose would read it: services with their variables filled in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
SECRETS = {
    "POSTGRES_PASSWORD": "a1b2c3",
    "RABBITMQ_PASSWORD": "d4e5f6",
    "DRIFTLINE_SECRET_KEY": "not a secret outside of tests",
    "DRIFTLINE_PUBLIC_URL": "http://127.0.0.1:8401",
}


class Unset(Exception):
    """A variable without which Compose refuses to start; the message is what it would say."""


def filled(value: Any, variables: Mapping[str, str]) -> Any:
    """A value of the file with its variables filled in, as Compose does: `${NAME:-default}` and `${NAME:?why}`."""
    if isinstance(value, dict):
        return {key: filled(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, variables) for one in value]
    return VARIABLE.sub(lambda found: _variable(found, variables), value) if isinstance(value, str) else value


def _variable(found: re.Match[str], variables: Mapping[str, str]) -> str:
    given = variables.get(found["name"], "")
    if found["kind"] == "?" and not given:
        raise Unset(f"{found['name']}: {found['rest']}")
    return given or (found["rest"] if found["kind"] == "-" else "")


def example() -> dict[str, str]:
    """The variables of .env.example, as they stand there."""
    lines = (ROOT / "docker" / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    assert all(equals for _, equals, _ in pairs)
    return {name: value for name, _, value in pairs}


@pytest.fixture(scope="session")
def raw_compose() -> dict[str, Any]:
    """compose.yaml as it is written."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="session")
def services(raw_compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services, with the example's variables and secrets that somebody set."""
    read: dict[str, dict[str, Any]] = filled(raw_compose["services"], example() | SECRETS)
    return read


@pytest.fixture(scope="session")
def fill() -> Any:
    """Fills variables in, as Compose does."""
    return filled


@pytest.fixture(scope="session")
def env_example() -> dict[str, str]:
    """The variables of .env.example."""
    return example()
