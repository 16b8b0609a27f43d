"""What an operator can mend. Everything else keeps its traceback."""

from collections.abc import Iterable

from driftline.names import one_line

MOST_CHOICES = 40  # listed of what would have worked


class DriftlineError(Exception):
    """A sentence that says what is, what was needed and what to do; shown without a traceback.

    `exit_code` is what the command line exits with, `status` what HTTP answers.
    """

    exit_code = 1
    status = 400

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def problem(self) -> dict[str, str | int]:
        """Problem details (RFC 9457), as HTTP and the command line tell programs."""
        return {"type": "about:blank", "title": type(self).__name__, "status": self.status, "detail": self.message}


class NotFound(DriftlineError):
    """A name that nothing answers to; lists the names that would have worked, where they are given."""

    status = 404

    def __init__(self, kind: str, name: object, choices: Iterable[object] | None = None) -> None:
        listed = [one_line(str(choice)) for choice in choices or ()]
        more = f" and {len(listed) - MOST_CHOICES} more" if len(listed) > MOST_CHOICES else ""
        known = f" Known: {', '.join(listed[:MOST_CHOICES])}{more}." if listed else f" There is no {kind} yet."
        super().__init__(f"There is no {kind} {one_line(str(name))}.{known if choices is not None else ''}")


class NotAllowed(DriftlineError):
    """A path that does not answer this method."""

    status = 405


class Conflict(DriftlineError):
    """Two things that cannot both be: a taken name, a state that has moved on."""

    status = 409


class Forbidden(DriftlineError):
    """The caller is known but may not."""

    status = 403


class Unauthenticated(DriftlineError):
    """The caller is not known."""

    status = 401


class MissingPackage(DriftlineError):
    """An optional package is needed for what was asked."""

    def __init__(self, package: str, needed_for: str, install: str) -> None:
        super().__init__(f"{needed_for} needs the package {package}, which is not installed. Run: {install}")


class TooLarge(DriftlineError):
    """A request is larger than one may be, or holds too much."""

    status = 413


class StoreUnavailable(DriftlineError):
    """The database does not answer, cannot be written, or is of another version."""

    status = 503


class BadInput(DriftlineError):
    """Something that was handed in cannot be used; names the place and what would do."""

    status = 422
