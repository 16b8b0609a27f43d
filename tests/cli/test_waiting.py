"""Waiting at the command line for what workers do."""

from pathlib import Path

import pytest

from driftline.cli.waiting import wait_for_comparison
from driftline.errors import DriftlineError
from driftline.store.engine import writing
from driftline.store.tables import Job


def ended(state: str, error: str | None = None) -> None:
    """A comparison of replay 7 that has ended so."""
    with writing() as session:
        job = Job(kind="comparison.make", queue="drift", subject="replay:7", due_at=0, created_at=0)
        job.state, job.error = state, error
        session.add(job)


def test_of_two_comparisons_the_newer_counts(store: Path) -> None:
    ended("failed", "the baseline has changed")
    ended("done")
    wait_for_comparison(7, "Comparing", quiet=True)
    ended("failed", "no item is shared")
    with pytest.raises(DriftlineError, match="no item is shared"):
        wait_for_comparison(7, "Comparing", quiet=True)


def test_a_comparison_that_nobody_asked_for_is_not_waited_for(store: Path) -> None:
    with pytest.raises(DriftlineError, match="nobody asked for it"):
        wait_for_comparison(8, "Comparing", quiet=True)
