"""Commands that run processes: everything at once, or one each for a deployment."""

from typing import Annotated

import typer

from driftline.cli.say import Json

Tether = Annotated[int | None, typer.Option(hidden=True, help="A pipe whose end is the end of this process.")]


def up(json: Json = False) -> None:
    """Run everything on this machine: web on one port, clock and workers. Ctrl-C stops all of it."""
    from driftline.cli.up import run_up

    raise typer.Exit(run_up(json))


def collect() -> None:
    """Run the collector: takes traffic in at /v1."""
    from driftline.cli.web import serve

    raise typer.Exit(serve(collector=True, dashboard=False))


def show() -> None:
    """Run the dashboard: pages and /api."""
    from driftline.cli.web import serve

    raise typer.Exit(serve(collector=False, dashboard=True))


def web(
    listener: Annotated[int | None, typer.Option(help="An open socket to serve on.")] = None, tether: Tether = None
) -> None:
    """Run collector and dashboard on one port; what `up` starts."""
    from driftline.cli.tether import tie
    from driftline.cli.web import serve

    tie(tether)
    raise typer.Exit(serve(collector=True, dashboard=True, descriptor=listener))


def work(
    queues: Annotated[
        str, typer.Option(help="Comma-separated queues to work on: replay, build, drift, notify. Default: all.")
    ] = "replay,build,drift,notify",
    concurrency: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="1: in this process, models stay loaded; more: that many child processes, or threads where the queues "
            "are among drift and notify.",
        ),
    ] = 1,
    name: Annotated[str, typer.Option(help="Name of this worker, shown on the dashboard.")] = "worker",
    tether: Tether = None,
) -> None:
    """Run a worker: replays, builds, checks, deliveries."""
    from driftline.cli.serving import prepared
    from driftline.cli.tether import tie
    from driftline.errors import BadInput
    from driftline.store.tables import QUEUES

    chosen = [queue.strip() for queue in queues.split(",") if queue.strip()]
    unknown = set(chosen) - set(QUEUES)
    if unknown or not chosen:
        raise BadInput(
            f"There is no queue {', '.join(sorted(unknown)) or '(none given)'}. Queues: {', '.join(QUEUES)}."
        )
    tie(tether)
    with prepared(name):
        from scheduler.app import run_worker

        raise typer.Exit(run_worker(chosen, concurrency, name))


def clock(tether: Tether = None) -> None:
    """Run the clock: schedules, checks, and the sweep for lost work. Any number may run; one ticks."""
    from driftline.cli.serving import prepared
    from driftline.cli.tether import tie

    tie(tether)
    with prepared("clock"):
        from scheduler.clock import run_clock

        raise typer.Exit(run_clock())


def alive(
    name: Annotated[
        str | None, typer.Argument(help="The process's name. Default: any process of this machine.")
    ] = None,
) -> None:
    """Exit 0 when a process of this machine gave a sign of life lately: the health check where there is no port."""
    from driftline.cli.serving import SILENT_S, silence_s
    from driftline.errors import DriftlineError

    silent = silence_s(name)
    if silent is None or silent > SILENT_S:
        since = "has never been seen" if silent is None else f"was last seen {silent:.0f} s ago"
        raise DriftlineError(f"{name or 'A process of this machine'} {since}; a living one signs every few seconds.")


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer items and shorter answers: under 3 minutes.")] = False,
    leave: Annotated[
        bool, typer.Option("--exit", help="Stop when the story is told, instead of leaving it up.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Recorded GPT-4 answers of March and June 2023 instead of a model here.")
    ] = False,
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Set the policy auto, and wait until the repair is promoted: nobody is asked."),
    ] = False,
    json: Json = False,
) -> None:
    """Show the main job on a real model and real traffic: build, replay, watch, find, alert, propose the repair."""
    from driftline.cli.demo.story import tell

    raise typer.Exit(tell(quick=quick, leave=leave, history=history, auto=auto, as_json=json))
