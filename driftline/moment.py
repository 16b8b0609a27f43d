"""Time as Driftline stores it: UTC, integer microseconds since the Unix epoch."""

import time
from datetime import UTC, datetime

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY


def now_us() -> int:
    """The current moment in microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def iso(us: int) -> str:
    """RFC 3339 in UTC with milliseconds.

    >>> iso(0)
    '1970-01-01T00:00:00.000Z'
    """
    second = datetime.fromtimestamp(us // SECOND, UTC).isoformat()[:19]  # strftime takes half as long again
    return f"{second}.{us % SECOND // 1000:03d}Z"


def parse(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 or ISO 8601 moment; without a zone it is taken as UTC.

    Raises:
        ValueError: The text is no moment, or one outside of the years 1 to 9999.

    >>> parse("1970-01-01T01:00:00+01:00")
    0
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except OverflowError:
        raise ValueError(f"{text} lies outside of the years 1 to 9999") from None
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds
