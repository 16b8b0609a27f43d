"""Sending a composed message: to public addresses only, unless private ones are allowed, and judging the answer.

The name is looked up once, and the request goes to the very address that was judged, so that a name which answers
differently the second time reaches nothing. Redirects are not followed: they are refusals.
"""

import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from driftline.errors import DriftlineError
from driftline.settings import settings
from scheduler.channels.notice import Address, Compose, Deliver, Message, Notice, Sent
from scheduler.work import TryAgain

TIMEOUT_S = 10.0
DEADLINE_S = 20.0  # for an answer that trickles
MOST_ANSWER = 65_536  # bytes of an answer that are read
FOR_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT_S = 900.0
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # NAT64: an IPv4 address in its last 32 bits


class Undeliverable(DriftlineError):
    """The far side said no for good, or the address must not be called."""


def posting(compose: Compose) -> Deliver:
    """Delivers by one POST of what `compose` makes."""

    def deliver(notice: Notice, address: Address, key: str) -> Sent:
        return Sent(post(compose(notice, address, key)))

    return deliver


def post(message: Message) -> str:
    """Sends it; what the far side answered, in short.

    Raises:
        TryAgain: It cannot now (its `Retry-After` is obeyed), or could not be reached.
        Undeliverable: It refused, redirects, or lies at an address that must not be called.
    """
    status, text = call(message.url, message.body, message.headers)
    return f"{status} {text[:200]}".strip()


def call(url: str, body: bytes, headers: Mapping[str, str], *, verify: ssl.SSLContext | bool = True) -> tuple[int, str]:
    """POSTs, and gives status and text of a 2xx answer; see `post` for what is raised."""
    host, addresses = checked_address(url)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes whole addresses, and these are secrets
    for place, address in enumerate(addresses, 1):
        try:
            answer, text = _post_to(address, host, url, body, headers, verify)
            break
        except httpx.ConnectError as error:
            if place == len(addresses):
                raise TryAgain(_unreached(host, error)) from None
        except httpx.HTTPError as error:
            raise TryAgain(_unreached(host, error)) from None
    said = f"{answer.status_code} {text[:200]}".strip()
    if answer.is_success:
        return answer.status_code, text
    if answer.status_code in FOR_LATER:
        raise TryAgain(f"{host} answered {said}", wait_s(answer.headers.get("retry-after", "")))
    if answer.is_redirect:
        said += " (a redirect, which is not followed)"
    raise Undeliverable(f"{host} answered {said}. Check the channel's address with `driftline alert test`.")


def _post_to(
    address: str, host: str, url: str, body: bytes, headers: Mapping[str, str], verify: ssl.SSLContext | bool
) -> tuple[httpx.Response, str]:
    target = httpx.URL(url)
    told = {**headers, "host": target.netloc.decode("ascii").rpartition("@")[2]}
    deadline, kept = time.monotonic() + DEADLINE_S, b""
    with (
        httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False, verify=verify) as client,
        client.stream(
            "POST", target.copy_with(host=address), content=body, headers=told, extensions={"sni_hostname": host}
        ) as answer,
    ):
        for chunk in answer.iter_bytes():
            kept += chunk
            if len(kept) > MOST_ANSWER or time.monotonic() > deadline:
                break
    return answer, kept.decode("utf-8", "replace")


def _unreached(host: str, error: httpx.HTTPError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the TLS certificate of {host} cannot be trusted: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return f"{host} could not be reached ({type(error).__name__})"


def refuse_private(url: str) -> str:
    """The host of a URL that may be called; see `checked_address`."""
    return checked_address(url)[0]


def checked_address(url: str) -> tuple[str, list[str]]:
    """The host of a URL that may be called, and the addresses to call it at, IPv4 first.

    Raises:
        TryAgain: Its name cannot be looked up now.
        Undeliverable: It leads to this machine or a private network, which alerts must not reach by default.
    """
    parts = urlsplit(url)
    return checked_host(parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))


def checked_host(host: str, port: int) -> tuple[str, list[str]]:
    """The host, and the addresses to call it at; see `checked_address`."""
    try:
        found = socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)
    except OSError as error:
        raise TryAgain(f"the name {host} cannot be looked up: {error}") from None
    addresses = sorted({str(entry[4][0]).split("%")[0] for entry in found}, key=lambda one: (":" in one, one))
    if not settings().allow_private_webhooks:
        for address in addresses:
            if not _is_public(address):
                raise Undeliverable(
                    f"{host} leads to the private address {address}. "
                    "Set DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS=true to let alerts call addresses of your own network."
                )
    return host, addresses


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in TRANSLATED else inner
        if inner is not None and not inner.is_global:
            return False
    return ip.is_global and not ip.is_multicast


def wait_s(given: str) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date (RFC 9110, 10.2.3)."""
    given = given.strip()
    try:
        return min(max(0.0, float(given)), LONGEST_WAIT_S)
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(given)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)  # "-0000": UTC, and nothing said of where
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), LONGEST_WAIT_S)
