"""Email over SMTP: plain text and HTML; what follows on an alert answers its first message, so clients thread it."""

import smtplib
import socket
import ssl
from collections.abc import Sequence
from email.headerregistry import Address as Mailbox
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from html import escape

from driftline.errors import BadInput
from scheduler.channels.notice import Address, Notice, Sent
from scheduler.channels.sending import TIMEOUT_S, Undeliverable, checked_host
from scheduler.work import TryAgain

PORTS = {"starttls": 587, "tls": 465, "none": 25}


def deliver(notice: Notice, address: Address, key: str) -> Sent:
    """Hands the message to the server.

    Raises:
        TryAgain: The server cannot now (4xx), or could not be reached.
        Undeliverable: It refuses the login, the sender or every recipient.
    """
    message = compose(notice, address, key)
    security = address.get("security", "starttls")
    host, addresses = checked_host(address["host"], port := int(address.get("port") or PORTS[security]))
    try:
        with _connected(host, addresses, port, security) as server:
            if address.get("user"):
                server.login(address["user"], address.get("password", ""))
            server.send_message(message)
    except ssl.SSLCertVerificationError as error:
        raise TryAgain(f"the TLS certificate of {host} cannot be trusted: {error.verify_message}") from None
    except smtplib.SMTPRecipientsRefused as error:
        said = "; ".join(f"{code} {text.decode(errors='replace')}" for code, text in error.recipients.values())
        if all(code < 500 for code, _ in error.recipients.values()):
            raise TryAgain(f"{host} answered {said}") from None
        raise Undeliverable(f"{host} refused every recipient: {said}") from None
    except smtplib.SMTPNotSupportedError as error:
        raise Undeliverable(f"{host} cannot do what the channel asks: {error}") from None
    except smtplib.SMTPResponseException as error:
        text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        if error.smtp_code < 500:
            raise TryAgain(f"{host} answered {error.smtp_code} {text}") from None
        raise Undeliverable(f"{host} answered {error.smtp_code} {text}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise TryAgain(f"{host} could not be reached ({type(error).__name__})") from None
    return Sent("accepted by " + host, {"message_id": str(message["Message-ID"])})


class _Pinned(smtplib.SMTP):
    """SMTP to an address that was judged, under the name whose certificate is checked."""

    def __init__(self, host: str, address: str, port: int) -> None:
        self._address = address
        super().__init__(host, port, local_hostname="driftline", timeout=TIMEOUT_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return socket.create_connection((self._address, port), timeout)


class _PinnedTls(_Pinned):
    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def _connected(host: str, addresses: Sequence[str], port: int, security: str) -> smtplib.SMTP:
    """A connection to the first of the addresses that takes one."""
    for address in addresses[:-1]:
        try:
            return _connected_to(host, address, port, security)
        except (smtplib.SMTPException, ssl.SSLError):
            raise  # it answers there
        except OSError:
            continue
    return _connected_to(host, addresses[-1], port, security)


def _connected_to(host: str, address: str, port: int, security: str) -> smtplib.SMTP:
    if security == "tls":
        return _PinnedTls(host, address, port)
    server = _Pinned(host, address, port)
    if security == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server


def compose(notice: Notice, address: Address, key: str) -> EmailMessage:
    """The notice as a message; a repeat carries the same Message-ID."""
    message = EmailMessage()
    sender = _mailbox(address["from"])
    message["From"] = sender
    message["To"] = [_mailbox(one) for one in address["to"].split(",") if one.strip()]
    message["Subject"] = " ".join(f"[{notice.severity}] {notice.title}".split())[:200]
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{key}.{notice.ref or 'notice'}@{sender.domain}>"
    message["X-Driftline-Key"] = key
    if notice.thread and notice.thread.get("message_id"):
        message["In-Reply-To"] = message["References"] = str(notice.thread["message_id"])
    facts = [(name, text) for name, text in notice.facts.items() if text.strip()]
    lines = [f"{one.happening}, {one.severity}: {one.title}" for one in notice.lines]
    text = [notice.summary, "", *(f"{name}: {value}" for name, value in facts), *lines, "", notice.link, ""]
    message.set_content("\n".join(text))
    rows = "".join(f"<tr><th align='left'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts)
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    html = (
        f"<h2>{escape(notice.title)}</h2><p>{escape(notice.summary)}</p><table>{rows}</table>"
        f"{f'<ul>{listed}</ul>' if listed else ''}<p><a href='{escape(notice.link)}'>Open in Driftline</a></p>"
    )
    message.add_alternative(html, subtype="html")
    return message


def _mailbox(text: str) -> Mailbox:
    name, spec = parseaddr(text)
    try:
        return Mailbox(display_name=name, addr_spec=spec)
    except (ValueError, IndexError):
        raise BadInput(f"{text!r} is no email address.") from None
