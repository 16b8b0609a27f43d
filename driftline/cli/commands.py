"""The tree of commands. Each group's commands stand in a file of their own and load when they run."""

import typer

from driftline.cli import (
    administration,
    alerts,
    golden,
    judging,
    monitors,
    prices,
    processes,
    traffic,
    variants,
    watching,
)

app = typer.Typer(
    name="driftline",
    help="Watch large language models after they have been optimized: still as good, as fast, as cheap?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

RUN = "Run"
ACT = "Variants and golden sets"
WATCH = "Watch and tell"
DATA = "Traffic"
ADMIN = "Administration"

app.command("up", rich_help_panel=RUN)(processes.up)
app.command("demo", rich_help_panel=RUN)(processes.demo)
app.command("collect", rich_help_panel=RUN)(processes.collect)
app.command("show", rich_help_panel=RUN)(processes.show)
app.command("web", hidden=True)(processes.web)
app.command("alive", hidden=True)(processes.alive)
app.command("work", rich_help_panel=RUN)(processes.work)
app.command("clock", rich_help_panel=RUN)(processes.clock)

app.add_typer(golden.app, name="golden", rich_help_panel=ACT)
app.add_typer(variants.app, name="variant", rich_help_panel=ACT)
app.command("replay", rich_help_panel=ACT)(judging.replay)
app.command("cancel", rich_help_panel=ACT)(judging.cancel)
app.command("gate", rich_help_panel=ACT, cls=judging.ForCI)(judging.gate)
app.add_typer(prices.app, name="price", rich_help_panel=ACT)

app.add_typer(monitors.app, name="monitor", rich_help_panel=WATCH)
app.add_typer(watching.schedules, name="schedule", rich_help_panel=WATCH)
app.add_typer(alerts.app, name="alert", rich_help_panel=WATCH)
app.add_typer(alerts.reoptimizations, name="reoptimize", rich_help_panel=WATCH)

app.command("import", rich_help_panel=DATA)(traffic.import_calls)
app.command("export", rich_help_panel=DATA)(traffic.export_calls)
app.command("erase", rich_help_panel=DATA)(traffic.erase)
app.add_typer(traffic.projects, name="project", rich_help_panel=DATA)

app.add_typer(administration.keys, name="key", rich_help_panel=ADMIN)
app.add_typer(administration.users, name="user", rich_help_panel=ADMIN)
app.add_typer(administration.database, name="db", rich_help_panel=ADMIN)
app.command("doctor", rich_help_panel=ADMIN)(administration.doctor)
app.command("version", rich_help_panel=ADMIN)(administration.version)
