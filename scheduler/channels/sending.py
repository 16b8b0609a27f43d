"""Sending a composed message: to public addresses only, unless private ones are allowed, and judging the answer."""

import ipaddress
import logging
import socket
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from driftline.errors import DriftlineError
from driftline.settings import settings
from scheduler.channels.notice import Message
from scheduler.work import TryAgain

TIMEOUT_S = 10.0
FOR_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT_S = 900.0


class Undeliverable(DriftlineError):
    """The far side said no for good, or the address must not be called."""


def post(message: Message) -> str:
    """Sends it; what the far side answered, in short.

    Raises:
        TryAgain: It cannot now (its `Retry-After` is obeyed), or could not be reached.
        Undeliverable: It refused, redirects, or lies at an address that must not be called.
    """
    address = refuse_private(message.url)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes whole addresses, and these are secrets
    try:
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
            answer = client.post(message.url, content=message.body, headers=dict(message.headers))
    except httpx.HTTPError as error:
        raise TryAgain(f"{address} could not be reached ({type(error).__name__})") from None
    said = f"{answer.status_code} {answer.text[:200]}".strip()
    if answer.is_success:
        return said
    if answer.status_code in FOR_LATER:
        raise TryAgain(f"{address} answered {said}", _wait_s(answer))
    raise Undeliverable(f"{address} answered {said}. Check the channel's address with `driftline alert test`.")


def refuse_private(url: str) -> str:
    """The host of a URL that may be called.

    Raises:
        TryAgain: Its name cannot be looked up now.
        Undeliverable: It leads to this machine or a private network, which alerts must not reach by default.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if settings().allow_private_webhooks:
        return host
    try:
        found = socket.getaddrinfo(host, parts.port or 443, proto=socket.IPPROTO_TCP)
    except OSError as error:
        raise TryAgain(f"the name {host} cannot be looked up: {error}") from None
    for *_, address in found:
        if not ipaddress.ip_address(str(address[0]).split("%")[0]).is_global:
            raise Undeliverable(
                f"{host} leads to the private address {address[0]}. "
                "Set DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS=true to let alerts call addresses of your own network."
            )
    return host


def _wait_s(answer: httpx.Response) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date (RFC 9110, 10.2.3)."""
    given = answer.headers.get("retry-after", "").strip()
    if given.isdecimal():
        return min(float(given), LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(given)
    except ValueError:
        return None
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), LONGEST_WAIT_S)
