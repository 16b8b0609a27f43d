"""A sign of life to somebody outside: when it stays away, they say so, even if this whole machine is gone."""

from sqlmodel import Session

from driftline.moment import SECOND, now_us
from driftline.queue import request
from driftline.settings import settings
from scheduler.channels.sending import call
from scheduler.work import Work


def ask_for_heartbeat(session: Session, last_asked: int) -> int:
    """Asks for a ping once per interval where an address is set; gives when it was last asked for.

    It is a job, so a ping that arrives says that the clock, the store, the broker and a worker all work.
    """
    now = now_us()
    if not settings().heartbeat_url.get_secret_value() or now - last_asked < settings().heartbeat_s * SECOND:
        return last_asked
    request(session, "heartbeat.ping", "notify", {}, subject="heartbeat", dedup_key="heartbeat", max_attempts=1)
    return now


def ping(work: Work) -> dict[str, str]:
    """POSTs to the address; a ping that fails is not repeated, the next one follows soon."""
    status, _ = call(settings().heartbeat_url.get_secret_value(), b"", {"user-agent": "driftline"})
    return {"answer": str(status)}
