"""The front door: every command, composed of the rooms. Nobody imports this.

Commands import what they need when they run, so that `driftline --help` answers at once.
"""

import sys


def main() -> None:
    """Runs the command line; what an operator can mend is one sentence on standard error and an exit code."""
    from driftline.cli.commands import app
    from driftline.errors import DriftlineError

    try:
        app()
    except DriftlineError as error:
        print(f"driftline: {error.message}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(f"driftline: {sentence}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _sentence(error: Exception) -> str | None:
    """What to tell of a database that does not answer; None for anything else."""
    if "sqlalchemy" not in sys.modules:
        return None
    from sqlalchemy.exc import OperationalError

    from driftline.store.engine import explain_failure

    return explain_failure(error).message if isinstance(error, OperationalError) else None
