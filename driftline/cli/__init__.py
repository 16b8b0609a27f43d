"""The front door: every command, composed of the rooms. Nobody imports this.

Commands import what they need when they run, so that `driftline --help` answers at once.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driftline.errors import DriftlineError


def main() -> None:
    """Runs the command line; what an operator can mend is told on standard error, with an exit code that is not 0.

    It is one sentence, and with `--json` one line of JSON.
    """
    from driftline.cli.commands import app
    from driftline.cli.say import failed, wants_json
    from driftline.errors import DriftlineError

    as_json = wants_json()
    try:
        sys.exit(_plainly(app) if as_json else app())
    except DriftlineError as error:
        failed(as_json, error)
        sys.exit(error.exit_code)
    except Exception as error:
        problem = _mendable(error)
        if problem is None:
            raise
        failed(as_json, problem)
        sys.exit(problem.exit_code)


def _plainly(app: Any) -> int:
    """Runs the command and answers with its exit code, without the boxes that are drawn around a call that is wrong.

    Raises:
        BadInput: The call cannot be understood.
    """
    import typer

    from driftline.errors import BadInput

    try:
        return int(app(standalone_mode=False) or 0)
    except typer.TyperException as error:
        problem = BadInput(error.format_message())
        problem.exit_code = error.exit_code
        raise problem from None


def _mendable(error: Exception) -> "DriftlineError | None":
    """What to tell of a database that does not answer; None for anything else."""
    if "sqlalchemy" not in sys.modules:
        return None
    from sqlalchemy.exc import OperationalError

    from driftline.store.engine import explain_failure

    return explain_failure(error) if isinstance(error, OperationalError) else None
