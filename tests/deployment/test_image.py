"""The image and the compose file, read without Docker: whatever they name must exist."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer.main

from driftline.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = {"collector", "dashboard", "worker", "clock"}
OF_OTHERS = {"DO_NOT_TRACK", "HF_HUB_OFFLINE", "PATH", "HOME", "PYTHONUNBUFFERED", "PIP_DISABLE_PIP_VERSION_CHECK"}
OF_SERVERS = {
    "postgres": {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"},
    "rabbitmq": {"RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS"},
}
HEAVY = ("torch", "transformers", "evidently")
KEYS = {
    "build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "hostname", "image", "init",
    "ports", "restart", "security_opt", "shm_size", "stop_grace_period", "volumes",
}  # fmt: skip


@dataclass
class Stage:
    """One FROM of the Dockerfile: what it starts from, and its instructions in order."""

    name: str
    start: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str | None:
        return next((words for kind, words in reversed(self.steps) if kind == instruction), None)


def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile by name."""
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for line in re.sub(r"\\\n", " ", text).splitlines():
        kind, _, words = line.strip().partition(" ")
        if not kind:
            continue
        assert kind in {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
                        "ENTRYPOINT", "CMD"}, kind  # fmt: skip
        if kind == "FROM":
            start, _, name = words.split()
            current = found[name] = Stage(name, start)
        elif current is not None:
            current.steps.append((kind, words.strip()))
    return found


def commands() -> dict[str, Any]:
    """Every command by its words, "key create"."""
    from driftline.cli.commands import app

    def below(group: Any, words: str) -> dict[str, Any]:
        found = {}
        for name, command in group.commands.items():
            full = f"{words} {name}".strip()
            found |= below(command, full) if hasattr(command, "commands") else {full: command}
        return found

    return below(typer.main.get_command(app), "")


def check_command(words: list[str]) -> None:
    """Parses a command as the real command line would, without running it."""
    known = commands()
    name = max((name for name in known if words[: len(name.split())] == name.split()), key=len, default=None)
    assert name is not None, f"driftline has no command {' '.join(words)}"
    known[name].make_context(name, words[len(name.split()) :])


def environment_of(stage: Stage) -> set[str]:
    words = " ".join(words for kind, words in stage.steps if kind == "ENV")
    return set(re.findall(r"(?:^|\s)([A-Z_]+)=", words))


def settings_names() -> set[str]:
    return {f"DRIFTLINE_{name.upper()}" for name in Settings.model_fields}


def test_every_copied_file_exists_and_is_let_through() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = [rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules
    for stage in stages().values():
        for words in (words for kind, words in stage.steps if kind == "COPY"):
            if words.startswith("--from="):
                assert words.split()[0].removeprefix("--from=") in stages()
                continue
            for source in words.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in let_through, f"{source} is kept out by .dockerignore"


def test_every_stage_starts_from_one_that_is_there_and_processes_end_unprivileged() -> None:
    known = stages()
    assert set(known) >= PROCESSES
    for stage in known.values():
        assert stage.start in known or re.fullmatch(r"python:\$\{PYTHON\}-slim-bookworm", stage.start)
        mounted = re.findall(r"type=bind,from=([a-z-]+)", " ".join(words for _, words in stage.steps))
        assert set(mounted) <= set(known)
    for name in PROCESSES:
        stage = known[name]
        assert stage.last("USER") == "10001:10001"
        assert stage.last("STOPSIGNAL") == "SIGTERM"
        assert json.loads(stage.last("ENTRYPOINT") or "") == ["driftline"]
        check_command(json.loads(stage.last("CMD") or ""))
        check = (stage.last("HEALTHCHECK") or "").partition(" CMD ")[2]
        words = json.loads(check)
        if words[0] == "driftline":
            check_command(words[1:])
        else:
            assert words[:2] == ["python", "-c"]
            compile(words[2], "HEALTHCHECK", "exec")


def wanted(extras: list[str]) -> list[str]:
    """What docker/requirements.py says, run as the Dockerfile runs it: beside pyproject.toml."""
    command = [sys.executable, "docker/requirements.py", *extras]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_extras_exist_and_the_web_images_stay_light() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    for name in PROCESSES:
        packages = stages()[f"{name}-packages"]
        asked = re.search(r"requirements\.py ([a-z ]+) >", " ".join(words for _, words in packages.steps))
        assert asked is not None
        names = [re.split(r"[\[<>=;,]", one)[0].strip().lower() for one in wanted(asked[1].split())]
        assert "celery" in names
        assert all(f"{one}==" in pins for one in names if one not in {"psycopg"}), names
        if name in {"collector", "dashboard"}:
            assert not set(HEAVY) & set(names)
    with pytest.raises(AssertionError, match="There is no extra 'nonsense'"):
        wanted(["nonsense"])


def test_every_service_is_a_real_process_with_real_settings(services: dict[str, dict[str, Any]]) -> None:
    known = stages()
    assert set(services) >= PROCESSES | {"postgres", "rabbitmq"}
    for name, service in services.items():
        assert set(service) - {"<<"} <= KEYS, name
        given = set(service["environment"])
        if name in OF_SERVERS:
            assert given == OF_SERVERS[name]
            assert "healthcheck" in service
            continue
        assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["build"]["target"] in known
        check_command([str(word) for word in service["command"]])
        assert given <= settings_names() | OF_OTHERS, given - settings_names()
        assert environment_of(known[service["build"]["target"]]) <= settings_names() | OF_OTHERS
        Settings(**{key.removeprefix("DRIFTLINE_").lower(): value for key, value in service["environment"].items()
                    if key.startswith("DRIFTLINE_") and value != ""})  # fmt: skip
        for needed, how in service["depends_on"].items():
            assert needed in services
            healthy = "service_completed_successfully" if needed == "setup" else "service_healthy"
            assert how == {"condition": healthy}


def test_volumes_and_variables_are_declared(raw_compose: dict[str, Any], env_example: dict[str, str]) -> None:
    named = {volume.partition(":")[0] for one in raw_compose["services"].values() for volume in one.get("volumes", [])}
    assert named == set(raw_compose["volumes"])
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")))
    assert used == set(env_example)


def test_an_unset_secret_is_refused_with_a_sentence(
    fill: Any, raw_compose: dict[str, Any], env_example: dict[str, str]
) -> None:
    needed = {"POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "DRIFTLINE_SECRET_KEY", "DRIFTLINE_PUBLIC_URL"}
    assert {name for name in needed if env_example[name]} == set(), "the example carries a password that works"
    for missing in needed:
        variables = env_example | dict.fromkeys(needed - {missing}, "set")
        with pytest.raises(Exception, match=f"{missing}: Set {missing} in docker/.env"):
            fill(raw_compose["services"], variables)


def test_the_wheel_carries_every_file_of_the_rooms(tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout, so the files that belong to the project are not known")
    rooms = ("driftline", "collector", "variants", "evaluators", "scheduler", "dashboard")
    tracked = {name for name in listed.stdout.splitlines() if name.split("/")[0] in rooms and (ROOT / name).exists()}
    for name in (*rooms, "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "out", "."],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        assert tracked - set(opened.namelist()) == set()


def test_the_parser_sees_what_the_checks_rely_on() -> None:
    assert not fnmatch.filter(stages(), "* *")
    assert stages()["collector"].start == "base"
    with pytest.raises(AssertionError, match="no command"):
        check_command(["frobnicate"])
    assert "driftline" in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
