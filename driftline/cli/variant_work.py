"""`driftline variant show`, `cancel`, `search`, `frontier`, `clean`, `router-examples`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out, rows
from driftline.names import one_line

if TYPE_CHECKING:
    from sqlmodel import Session

    from driftline.store.tables import Variant

SHOWN = ("perplexity", "kl_to_parent", "top1_agreement", "decode_tokens_per_s", "bytes_stored", "latency_ms")


def show(
    name: Annotated[str, typer.Argument(help="The variant.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Show one variant: its lineage as a tree, its recipe, what was measured at its build and its last replay."""
    from driftline.acts.variants import find_variant, lineage
    from driftline.cli.opened import reading_in

    with reading_in(project) as (session, owner):
        row = find_variant(session, owner.id, name)
        ancestors = lineage(session, row)
        top = find_variant(session, owner.id, ancestors[0])
        document: dict[str, Any] = {
            "name": row.name, "hash": row.content_hash, "fingerprint": row.fingerprint, "state": row.state,
            "build": row.build_state, "error": row.build_error, "note": row.note, "spec": row.spec,
            "lineage": ancestors, "tree": _branch(session, top), "measured": row.measured,
            "replayed": _last_replay(session, row),
        }  # fmt: skip
    if json:
        out(True, document, "")
        return
    from rich.console import Console
    from rich.tree import Tree

    def grow(node: dict[str, Any], onto: Tree) -> None:
        for child in node["children"]:
            grow(child, onto.add(_label(child, name)))

    tree = Tree(_label(document["tree"], name))
    grow(document["tree"], tree)
    console = Console()
    console.print(tree)
    typer.echo(f"\n{one_line(row.name)}  {row.state}, {row.build_state}  hash {row.content_hash[:12]}")
    steps = " → ".join(step["method"] for step in row.spec.get("chain", []))
    typer.echo(f"run by {row.spec.get('runner')}: {steps or 'no steps of its own'}")
    for title, figures in (("at its build", row.measured), ("at its last replay", document["replayed"])):
        said = ", ".join(_figure(k, v) for k, v in figures.items() if isinstance(v, float | int))
        typer.echo(f"{title}: {said or 'nothing measured yet'}")


def _branch(session: "Session", row: "Variant", depth: int = 0) -> dict[str, Any]:
    from sqlmodel import select

    from driftline.store.tables import Variant

    children = session.exec(select(Variant).where(Variant.parent_id == row.id).order_by(Variant.name)).all()
    step = row.spec.get("chain") or [{"method": row.spec.get("runner")}]
    return {
        "name": row.name, "step": step[-1]["method"], "build": row.build_state,
        "figures": {key: row.measured[key] for key in SHOWN if key in row.measured},
        "children": [_branch(session, child, depth + 1) for child in children] if depth < 32 else [],
    }  # fmt: skip


def _label(node: dict[str, Any], here: str) -> str:
    from rich.markup import escape

    mark = "[bold]" if node["name"] == here else ""
    figures = ", ".join(_figure(key, value) for key, value in node["figures"].items())
    return f"{mark}{escape(one_line(node['name']))}{'[/bold]' if mark else ''} ({node['step']}) [dim]{figures}[/dim]"


def _figure(key: str, value: float) -> str:
    """A measured value with its name; bytes as megabytes.

    >>> _figure("bytes_stored", 538_090_408), _figure("perplexity", 48.4321)
    ('bytes_stored 538.1 MB', 'perplexity 48.43')
    """
    return f"{key} {value / 1e6:.1f} MB" if "bytes" in key else f"{key} {value:.4g}"


def _last_replay(session: "Session", row: "Variant") -> dict[str, Any]:
    from sqlmodel import col, select

    from driftline.store.tables import Replay

    done = select(Replay).where(Replay.variant_id == row.id, Replay.state == "done")
    found = session.exec(done.order_by(col(Replay.id).desc()).limit(1)).first()
    return found.measured if found else {}


def cancel(
    name: Annotated[str, typer.Argument(help="The variant.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Cancel what is being built of a variant, and searches from it; finished steps stay."""
    from driftline.acts.searches import cancel_work
    from driftline.acts.variants import find_variant
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        ended = cancel_work(session, find_variant(session, owner.id, name), actor())
    out(json, {"variant": name, "cancelled": ended}, f"{ended} job of {name} cancelled.")


def search(
    name: Annotated[str, typer.Argument(help="The variant whose children are tried.")],
    golden: Annotated[str, typer.Option("--golden", "-g", help="The golden set; its training split judges.")],
    space: Annotated[
        str,
        typer.Option(help='What is tried, as JSON or a file of it: {"steps": […], "sampling": {…}}; or "prompt".'),
    ] = "prompt",
    trials: Annotated[int, typer.Option(help="How many children are tried.")] = 20,
    sampler: Annotated[str, typer.Option(help="random, tpe, or hyperband, which stops poor trials early.")] = "tpe",
    objective: Annotated[
        list[str], typer.Option(help="quality, latency_ms, bytes_stored, joules_per_answer; repeat it for several.")
    ] = [],  # noqa: B006
    scorer: Annotated[str, typer.Option(help="The evaluator that is quality.")] = "token_f1",
    items: Annotated[int, typer.Option(help="How many training items judge a trial.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the sampler and of the choice of items.")] = 0,
    wait: Annotated[bool, typer.Option(help="Wait until a worker has searched.")] = True,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Search over recipes, prompts and generation settings (Optuna); the best children are declared as variants."""
    from driftline.acts.golden import find_version
    from driftline.acts.searches import request_search
    from driftline.acts.variants import find_variant
    from driftline.cli.opened import writing_in
    from driftline.cli.variant_steps import object_of
    from driftline.cli.waiting import wait_for_job
    from driftline.errors import DriftlineError

    text = Path(space).read_text(encoding="utf-8") if space.endswith(".json") and Path(space).is_file() else space
    wanted = {"steps": [{"prompt": {}}]} if space == "prompt" else object_of(text, "--space")
    with writing_in(project) as (session, owner):
        job = request_search(
            session, find_variant(session, owner.id, name), find_version(session, owner.id, golden), wanted, actor(),
            trials=trials, sampler=sampler, objectives=objective, scorer=scorer, items=items, seed=seed,
        )  # fmt: skip
    if not wait:
        out(json, {"job": job.id}, f"Job {job.id} is queued.")
        return
    ended = wait_for_job(job.id, f"Searching from {name}", quiet=json)
    if ended.state != "done" or ended.result is None:
        raise DriftlineError(f"The search from {name} {ended.state}: {ended.error}")
    if json:
        out(True, ended.result, "")
        return
    shown = [{**one, "best": one["trial"] in ended.result["best"]} for one in ended.result["trials"]]
    columns = ("trial", "state", "best", "variant", "quality", "latency_ms", "bytes_stored", "params")
    rows(False, shown, columns, "No trial was run.")


def frontier(
    golden: Annotated[
        str | None, typer.Option("--golden", "-g", help="The golden set; default: replayed last.")
    ] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Show which variants nobody beats in quality, latency, size, energy and cost at once."""
    from driftline.acts.frontier import shown, standings
    from driftline.acts.golden import find_version
    from driftline.cli.opened import reading_in

    with reading_in(project) as (session, owner):
        version = find_version(session, owner.id, golden) if golden else None
        found = [shown(one) for one in standings(session, owner.id, version)]
    columns = ("variant", "frontier", "quality", "latency_ms", "bytes_stored", "joules_per_answer", "usd_per_1000")
    rows(json, found, columns, "Nothing was replayed yet: driftline replay VARIANT --golden NAME")


def clean(
    file: Annotated[Path, typer.Argument(help="Examples: JSONL, or a text file of paragraphs.")],
    to: Annotated[Path, typer.Option("--out", "-o", help="Where the clean examples are written, as JSONL.")],
    golden: Annotated[
        list[str], typer.Option("--golden", "-g", help="A golden set that must not leak into them; repeat it.")
    ] = [],  # noqa: B006
    project: Project = "default",
    json: Json = False,
) -> None:
    """Clean training or calibration examples: duplicates go, contradictions and leaks from golden sets are refused."""
    import json as text

    from driftline.acts.golden import find_version
    from driftline.cli.opened import items_of, reading_in
    from variants.training.clean import cleaned
    from variants.training.corpus import read_examples

    prompts: list[str] = []
    if golden:
        with reading_in(project) as (session, owner):
            for name in golden:
                items = items_of(session, find_version(session, owner.id, name), 1_000_000)
                prompts += ["\n".join(m["content"] for m in item.messages if m["role"] == "user") for item in items]
    kept, found = cleaned(read_examples(file), prompts)
    lines = [
        {"messages": [dict(m) for m in one.messages], "answer": one.answer} if one.messages else {"text": one.answer}
        for one in kept
    ]
    to.write_text("".join(text.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    said = ", ".join(f"{count:.0f} {name.replace('_', ' ')}" for name, count in found.items())
    out(json, {"examples": len(kept), **found}, f"{len(kept)} examples written to {to}; taken out: {said}.")


def router_examples(
    small: Annotated[str, typer.Argument(help="The small variant, replayed on the golden set.")],
    large: Annotated[str, typer.Option(help="The large variant, replayed on the same.")],
    golden: Annotated[str, typer.Option("--golden", "-g", help="The golden set.")],
    to: Annotated[Path, typer.Option("--out", "-o", help="Where the examples are written, as JSONL.")],
    scorer: Annotated[str, typer.Option(help="The evaluator that tells who answered well.")] = "token_f1",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Write a router's examples: a prompt is easy where the small variant scored at least as well as the large one."""
    import json as text

    from driftline.acts.golden import find_version
    from driftline.acts.replays import newest_scores
    from driftline.acts.variants import find_variant
    from driftline.cli.opened import items_of, reading_in

    with reading_in(project) as (session, owner):
        version = find_version(session, owner.id, golden)
        both = [newest_scores(session, find_variant(session, owner.id, one), version, scorer) for one in (small, large)]
        items = {item.id: item for item in items_of(session, version, 1_000_000)}
        lines = [
            {"prompt": items[key].messages[-1]["content"], "easy": both[0][key] >= both[1][key]}
            for key in both[0]
            if key in both[1] and key in items
        ]
    to.write_text("".join(text.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    easy = sum(bool(line["easy"]) for line in lines)
    out(json, {"examples": len(lines), "easy": easy}, f"{len(lines)} examples written to {to}, {easy} of them easy.")
