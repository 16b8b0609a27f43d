"""How the demo speaks: one line per chapter, a bar with the remaining time while it waits, a table at the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from driftline.errors import DriftlineError

POLL_S = 0.25
WIDE = 140


class Teller:
    """Prints to standard error, so that standard output holds the final table alone."""

    def __init__(self, chapters_s: Sequence[float]) -> None:
        self.console = Console(stderr=True, highlight=False)
        if not self.console.is_terminal:
            self.console.width = WIDE  # a log file has no width
        self.started = time.monotonic()
        self._chapters_s = list(chapters_s)
        self._told = 0

    def chapter(self, title: str) -> None:
        """Begins a step of the story, with the time that is left."""
        left = remaining_s(self._chapters_s, self._told, time.monotonic() - self.started)
        self._told += 1
        self.console.print(f"\n[bold]{escape(title)}[/bold] [dim]· about {_spoken(left)} left[/dim]")

    def say(self, line: str) -> None:
        """One line of the story."""
        self.console.print(f"  {escape(line)}")

    @contextmanager
    def bar(self, title: str, total: float) -> Iterator[Callable[[float], None]]:
        """A progress bar; call what it gives with the amount done."""
        columns = (
            TextColumn("  {task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.console, transient=not self.console.is_terminal) as progress:
            task = progress.add_task(title, total=total)
            yield lambda done: progress.update(task, completed=done)

    def table(self, title: str, rows: list[dict[str, Any]]) -> None:
        """What was injected and what was found."""
        table = Table(
            "", "injected", "found", title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold"
        )
        for row in rows:
            table.add_row(str(row["what"]), str(row["injected"]), str(row["found"]))
        self.console.print(table)


def remaining_s(chapters_s: Sequence[float], told: int, elapsed_s: float) -> float:
    """Seconds that are left before chapter number `told` (from 0), by how fast this machine told those before it.

    `chapters_s` are the seconds of each chapter on the machine where they were measured. Until a twentieth of the story
    is told there is nothing to judge this machine by, and it counts as that one.

    >>> remaining_s([10, 100, 40], 2, 220.0)
    80.0
    """
    before = sum(chapters_s[:told])
    pace = elapsed_s / before if before >= 0.05 * sum(chapters_s) else 1.0
    return pace * sum(chapters_s[told:])


def _spoken(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(5, 5 * round(seconds / 5))} s"


class Interrupted(DriftlineError):
    """Somebody asked the demo to stop."""

    exit_code = 130


def wait_until(
    ready: Callable[[], Any],
    timeout_s: float,
    problem: str,
    stopping: Callable[[], bool],
    meanwhile: Callable[[], object] = bool,
) -> Any:
    """What `ready` answers, once that is true.

    Raises:
        DriftlineError: It was not within the time; says what did not happen.
        Interrupted: `stopping` became true first.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if stopping():
            raise Interrupted("The demo was stopped before its end.")
        meanwhile()
        answer = ready()
        if answer:
            return answer
        time.sleep(POLL_S)
    raise DriftlineError(f"{problem} within {timeout_s:.0f} s. The processes' logs are in the data folder, under logs.")
