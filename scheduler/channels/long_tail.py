"""The long tail: any service that Apprise knows, where the package is installed. `urls` are Apprise's, one a line.

Apprise sends by itself, so what Driftline promises of its own requests (pinned addresses, no redirects) does not hold
here; a URL that names a private host is refused all the same.
"""

import logging

from driftline.errors import MissingPackage
from scheduler.channels.notice import Address, Notice, Sent
from scheduler.channels.sending import Undeliverable, checked_host
from scheduler.work import TryAgain

TYPES = {"resolved": "success", "acknowledged": "info", "test": "info"}


def deliver(notice: Notice, address: Address, key: str) -> Sent:
    """Hands the notice to every service of the channel.

    Raises:
        MissingPackage: Apprise is not installed.
        Undeliverable: A URL is none that Apprise knows, or leads to a private address.
        TryAgain: A service did not take it; Apprise does not say why.
    """
    try:
        import apprise
    except ImportError:
        raise MissingPackage("apprise", "This channel", "pip install 'driftline[apprise]'") from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it logs addresses, and these are secrets
    services = apprise.Apprise()
    for place, url in enumerate(address["urls"].split(), 1):
        service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if service is None:
            raise Undeliverable(f"URL {place} of the channel is none that Apprise knows.")
        host = getattr(service, "host", None)
        if host:
            checked_host(str(host), int(getattr(service, "port", None) or 443))
        services.add(service)
    facts = [f"{name}: {text}" for name, text in notice.facts.items() if text.strip()]
    lines = [f"{one.happening}, {one.severity}: {one.title}" for one in notice.lines]
    body = "\n".join([notice.summary, *facts, *lines, notice.link, f"({key})"])
    if not services.notify(title=notice.title, body=body, notify_type=TYPES.get(notice.happening, "failure")):
        raise TryAgain("a service of the channel did not take the notice")
    return Sent(f"taken by {len(services)} services")
