"""Every command: help at once, one JSON document for machines, and one sentence where something is wrong."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from driftline.cli.commands import app

PROCESSES = {"collect", "show", "work", "clock"}  # run until they are stopped and answer nothing


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from leaves(child, (*path, name))
        elif not child.hidden:
            yield (*path, name), child


COMMANDS = dict(leaves(typer.main.get_command(app)))
NAMES = [" ".join(path) for path in COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_says_what_it_is_for_and_what_each_option_means(name: str) -> None:
    command = COMMANDS[tuple(name.split())]
    assert command.help
    assert command.help.split("\n")[0].rstrip().endswith((".", "?"))
    assert [parameter.name for parameter in command.params if not parameter.hidden and not parameter.help] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PROCESSES])
def test_every_command_that_answers_something_answers_machines_too(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[tuple(name.split())].params)


ONE_COMMAND = """
import typer
app = typer.Typer()
app.command()(lambda: None)
app(["--help"])
"""


def processor_s(*arguments: str) -> float:
    """Processor time of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_little_more_than_typer_takes_for_one_command() -> None:
    pairs = [(processor_s("-m", "driftline", "--help"), processor_s("-c", ONE_COMMAND)) for _ in range(5)]
    ours, least = map(min, zip(*pairs, strict=True))
    assert ours < 2.5 * least


def test_help_groups_the_commands(driftline: Any) -> None:
    said = driftline("--help").out
    for group in ("Run", "Variants and golden sets", "Watch and tell", "Administration"):
        assert group in said


LISTS = ["golden list", "variant list", "monitor list", "alert list", "alert list --all", "schedule list",
         "reoptimize list"]  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_nothing_says_how_to_begin_and_is_empty_for_machines(command: Any, name: str) -> None:
    assert command(*name.split()).out.startswith("No ")
    assert command(*name.split(), "--json").json == []


def test_machines_get_the_version_and_the_revision(command: Any) -> None:
    from driftline import __version__

    assert command("version", "--json").json == {"version": __version__}
    assert command("db", "revision", "--json").json == command("db", "upgrade", "--json").json


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("golden show nothing", "There is no golden set nothing. There is no golden set yet."),
        ("golden list --project nowhere", "There is no project nowhere. Known: default."),
        ("variant build nothing", "There is no variant nothing. Known: base."),
        ("variant promote nothing", "There is no variant nothing. Known: base."),
        ("variant rollback --route nowhere", "no earlier production variant to roll back to"),
        ("variant add v --runner warp", "There is no runner 'warp'. Known: "),
        ("variant add v --method shrink", "There is no method 'shrink'. Known: "),
        ("variant add v --method smollm2:{", "--method smollm2 takes a JSON object; '{' is none"),
        ("variant add v --runner recorded --config [1]", "--config takes a JSON object, not '[1]'"),
        ("variant add base --runner python --config {\"function\":\"m:f\"}", "stands for another recipe"),
        ("replay base --golden nothing", "There is no golden set nothing."),
        ("monitor add m --signal mood", "There is no signal 'mood'. Known: errors"),
        ("monitor rebaseline m", "There is no monitor m. There is no monitor yet."),
        ("schedule add s --variant base --golden nothing --every-s 60", "There is no golden set nothing."),
        ("schedule add s --variant nothing --golden nothing --every-s 60", "There is no variant nothing."),
        ("alert ack 7", "There is no alert 7."),
        ("alert test pager", "There is no channel pager."),
        ("alert silence route", "write LABEL=VALUE"),
        ("alert channel c --kind pigeon --url https://example.com", "no channel kind 'pigeon'. Known: slack, "),
        ("reoptimize approve 7", "There is no re-optimization 7."),
        ("key create app --scopes rule", "any of ingest, read, operate, admin; got rule"),
        ("key revoke nobody", "There is no key nobody."),
        ("user add ann --password short", "at least 10 characters"),
        ("user add ann --password long-enough-now --role king", "one of viewer, operator, admin; got 'king'"),
        ("work --queues holidays", "There is no queue holidays. Queues: replay, build, drift, notify."),
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_sentence_that_lists_the_choices(command: Any, arguments: str, says: str) -> None:
    command("variant", "add", "base", "--runner", "recorded", "--config", '{"answers": {}}')
    said = command(*arguments.split(), code=1)
    assert says in said.err
    assert said.err.startswith("driftline: ")
    assert len(said.err.strip().splitlines()) == 1
    assert said.out == ""


def test_a_key_is_shown_once_and_works_until_it_is_revoked(command: Any, everything_in_the_store: Any) -> None:
    from driftline.store.engine import reading
    from driftline.store.projects import caller_of_key

    made = command("key", "create", "app", "--scopes", "ingest,read", "--json").json
    with reading() as session:
        assert caller_of_key(session, made["key"]) is not None
    assert made["key"] not in everything_in_the_store()
    assert "has a key named app already" in command("key", "create", "app", code=1).err
    command("key", "revoke", "app")
    with reading() as session:
        assert caller_of_key(session, made["key"]) is None


def test_a_person_is_added_with_a_hashed_password(command: Any, everything_in_the_store: Any) -> None:
    command("user", "add", "ann", "--password", "correct horse battery", "--role", "operator")
    stored = everything_in_the_store()
    assert "correct horse" not in stored
    assert "$argon2" in stored


@pytest.fixture
def everything_in_the_store(store: Path) -> Any:
    """Every byte of the database files."""

    def read() -> str:
        return b"".join(path.read_bytes() for path in sorted(store.glob("driftline.db*"))).decode("latin-1")

    return read


def test_a_variants_life_on_the_command_line(command: Any) -> None:
    for name in ("one", "two"):
        command("variant", "add", name, "--runner", "recorded", "--config", f'{{"answers": {{"q": "{name}"}}}}')
    command("variant", "promote", "one", "--baseline", "--reason", "first")
    command("variant", "promote", "two", "--reason", "smaller")
    listed = {row["name"]: row["state"] for row in command("variant", "list", "--json").json}
    assert listed == {"one": "candidate", "two": "production"}, "the baseline serves nobody any more"
    assert command("variant", "rollback", "--json").json["production"] == "one"


def test_a_channel_and_a_silence_are_set_without_the_address_being_shown(command: Any) -> None:
    said = command("alert", "channel", "team", "--kind", "slack", "--url", "https://hooks.slack.com/hush")
    assert "hush" not in said.out
    until = command("alert", "silence", "route=chat", "--hours", "1", "--json").json
    assert until["matchers"] == {"route": "chat"}


def test_a_schedule_is_listed_as_it_was_added(command: Any, golden_file: Path) -> None:
    command("golden", "import", golden_file, "--name", "qa")
    command("variant", "add", "base", "--runner", "recorded", "--config", '{"answers": {}}')
    told = ("--variant", "base", "--golden", "qa", "--cron", "0 3 * * 1-5", "--timezone", "Europe/Berlin")
    command("schedule", "add", "nightly", *told, "--margin", "0.1", "--scorer", "exact")
    (row,) = command("schedule", "list", "--json").json
    for act, enabled in (("pause", False), ("resume", True)):
        assert command("schedule", act, "nightly", "--json").json == {"name": "nightly", "enabled": enabled}
        assert command("schedule", "list", "--json").json[0]["enabled"] is enabled
    assert "There is no schedule daily. Known: nightly." in command("schedule", "pause", "daily", code=1).err
    assert (row["cron"], row["timezone"], row["enabled"]) == ("0 3 * * 1-5", "Europe/Berlin", True)
    assert (row["args"]["margin"], row["args"]["scorers"]) == (0.1, ["exact"])
    assert "There is no scorer taste." in command("schedule", "add", "x", *told, "--scorer", "taste", code=1).err
    assert "name another variant as it" in command("schedule", "add", "x", *told, "--early-stop", code=1).err
    assert "a name is one line that is not blank" in command("schedule", "add", "", *told, code=1).err
    assert "A cron line has five fields" in command("schedule", "add", "x", *told[:4], "--cron", "daily", code=1).err
