"""The far side as it is: certificates nobody trusts, names that lie, servers that hang, mail servers, the long tail."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.channels import CHANNELS, Line, Message, Notice, sending
from scheduler.channels.sending import Undeliverable, call, post, wait_s
from scheduler.work import TryAgain, resolve

TOLD = Notice(
    "fired", "page", "Quality fell", "From 0.8 to 0.5.", "https://d.example/alerts/7", {"Route": "chat"},
    ref="driftline-alert-7",
)  # fmt: skip


class Server:
    """An HTTP server on loopback that counts and answers 200, or hands its connection to `instead`."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[dict[str, str]] = []
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.asked.append({"host": self.headers["host"], "path": self.path})
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers; all end with the test."""
    started: list[Server] = []

    def start(context: ssl.SSLContext | None = None) -> Server:
        started.append(Server(context))
        return started[-1]

    yield start
    for one in started:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture
def private_allowed(data_dir: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels may call this machine."""
    from driftline.settings import settings

    monkeypatch.setenv("DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS", "true")
    settings.cache_clear()


def message(url: str) -> Message:
    return Message(url, b"{}", {"content-type": "application/json"})


def answers(monkeypatch: pytest.MonkeyPatch, *several: list[str]) -> list[str]:
    """Makes a name lead to other addresses at each look-up, the last again and again; gives the names asked for."""
    asked, waiting = [], list(several)

    def look_up(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(sending, "socket", SimpleNamespace(getaddrinfo=look_up, IPPROTO_TCP=6))
    return asked


def test_a_certificate_that_nobody_vouches_for_is_named(private_allowed: None, serve: Any) -> None:
    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server = serve(context)
    with pytest.raises(TryAgain, match=r"the TLS certificate of localhost cannot be trusted: .*certificate"):
        post(message(f"https://localhost:{server.port}/"))
    assert server.asked == []


def test_a_certificate_is_checked_for_the_name_not_for_the_address_that_is_called(
    private_allowed: None, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server = serve(context)
    answers(monkeypatch, ["127.0.0.1"])
    assert call(f"https://hooks.example:{server.port}/x", b"{}", {}, verify=trusting) == (200, "ok")
    assert server.asked == [{"host": f"hooks.example:{server.port}", "path": "/x"}]
    with pytest.raises(TryAgain, match="cannot be trusted: Hostname mismatch"):
        call(f"https://other.example:{server.port}/x", b"{}", {}, verify=trusting)


def test_a_name_that_changes_its_mind_reaches_nothing_private(
    data_dir: object, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    asked = answers(monkeypatch, ["192.0.2.1"], ["127.0.0.1"])
    monkeypatch.setattr(sending, "_is_public", lambda address: address != "127.0.0.1")
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.3)
    with pytest.raises(TryAgain, match="could not be reached"):
        post(message(f"http://rebinds.example:{server.port}/"))
    assert asked == ["rebinds.example"], "it is looked up once, and that answer is the one that is called"
    assert server.asked == []


def test_a_name_with_one_private_address_among_others_is_refused(
    data_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(Undeliverable, match=r"private address 10\.0\.0\.1"):
        post(message("https://mixed.example/"))


@pytest.mark.parametrize("url", ["http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://2130706433/"])
def test_a_private_address_in_disguise_is_refused(data_dir: object, url: str) -> None:
    with pytest.raises((Undeliverable, TryAgain)):
        post(message(url))


def test_a_server_that_hangs_is_left(private_allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TryAgain, match="ReadTimeout"):
        post(message(f"http://127.0.0.1:{silent.getsockname()[1]}/"))


def test_an_endless_answer_is_not_read_to_its_end(private_allowed: None) -> None:
    def pour(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        try:
            while True:
                connection.sendall(chunk)
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=pour, args=(listener,), daemon=True).start()
        status, text = call(f"http://127.0.0.1:{listener.getsockname()[1]}/", b"{}", {})
    assert status == 200
    assert len(text) < 200_000


@pytest.fixture
def mail(private_allowed: None) -> Iterator[Any]:
    """A mail server on loopback; what it got, and what it says to recipients."""
    from aiosmtpd.controller import Controller

    taken: list[Any] = []
    says = SimpleNamespace(rcpt="250 OK", taken=taken, port=0)

    class Mailbox:
        async def handle_RCPT(self, _s: Any, _e: Any, envelope: Any, address: str, _o: Any) -> str:
            if says.rcpt.startswith("250"):
                envelope.rcpt_tos.append(address)
            return str(says.rcpt)

        async def handle_DATA(self, _s: Any, _e: Any, envelope: Any) -> str:
            taken.append(envelope)
            return "250 taken"

    with socket.create_server(("127.0.0.1", 0)) as probe:
        says.port = probe.getsockname()[1]
    controller = Controller(Mailbox(), hostname="127.0.0.1", port=says.port)
    controller.start()
    yield says
    controller.stop()


def send_mail(mail: Any, notice: Notice, **address: str) -> Any:
    told = {"host": "127.0.0.1", "port": str(mail.port), "to": "Ann <ann@example.com>, bob@example.com",
            "from": "Driftline <d@example.com>", "security": "none", **address}  # fmt: skip
    return resolve(CHANNELS["email"])(notice, told, "notification-7")


def test_mail_is_threaded_and_a_repeat_is_the_same_message(mail: Any) -> None:
    import email
    from email import policy

    first = send_mail(mail, TOLD)
    send_mail(mail, TOLD)
    follow = Notice("resolved", "page", "Resolved: Quality fell", "Over.", TOLD.link, ref=TOLD.ref, thread=first.remote)
    resolve(CHANNELS["email"])(
        follow, {"host": "127.0.0.1", "port": str(mail.port), "to": "ann@example.com", "from": "d@example.com",
                 "security": "none"}, "notification-8",
    )  # fmt: skip
    one, again, last = (email.message_from_bytes(e.content, policy=policy.default) for e in mail.taken)
    assert one["Message-ID"] == again["Message-ID"] == first.remote["message_id"]
    assert last["In-Reply-To"] == one["Message-ID"]
    assert one["Subject"] == "[page] Quality fell"
    assert mail.taken[0].rcpt_tos == ["ann@example.com", "bob@example.com"]
    assert "From 0.8 to 0.5." in one.get_body(("plain",)).get_content()
    assert TOLD.link in one.get_body(("html",)).get_content()


def test_a_subject_cannot_smuggle_a_header(mail: Any) -> None:
    import email

    send_mail(mail, Notice("fired", "page", "x\r\nBcc: eve@example.com", "s", "https://d.example"))
    assert email.message_from_bytes(mail.taken[0].content)["Bcc"] is None


@pytest.mark.parametrize(("says", "error"), [("550 no such user", Undeliverable), ("451 later", TryAgain)])
def test_what_a_mail_server_refuses_for_good_is_not_repeated(mail: Any, says: str, error: type[Exception]) -> None:
    mail.rcpt = says
    with pytest.raises(error):
        send_mail(mail, TOLD)


def test_a_mail_server_without_tls_gets_nothing_where_tls_is_asked_for(mail: Any) -> None:
    with pytest.raises(Undeliverable, match="STARTTLS"):
        send_mail(mail, TOLD, security="starttls")
    assert mail.taken == []


def test_private_mail_servers_are_refused_unless_allowed(data_dir: object) -> None:
    with pytest.raises(Undeliverable, match="private address"):
        resolve(CHANNELS["email"])(TOLD, {"host": "127.0.0.1", "to": "a@b.example", "from": "d@b.example"}, "k")


def test_a_mail_server_that_is_away_at_its_first_address_is_reached_at_the_next(
    mail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    found = [(*entry, (address, mail.port)) for address in ("127.0.0.1", "127.0.0.2")]
    asked = socket.getaddrinfo

    def resolved(host: str, *rest: Any, **options: Any) -> Any:
        return found if host == "mail.example" else asked(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    came: list[str] = []
    connect = socket.create_connection

    def connected(to: tuple[str, int], *rest: Any, **options: Any) -> socket.socket:
        came.append(to[0])
        if to[0] == "127.0.0.1" and came.count("127.0.0.1") == 1:
            raise ConnectionRefusedError
        return connect(("127.0.0.1", to[1]), *rest, **options)

    monkeypatch.setattr(socket, "create_connection", connected)
    send_mail(mail, TOLD, host="mail.example")
    assert came == ["127.0.0.1", "127.0.0.2"]
    assert len(mail.taken) == 1


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("120", 120.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        ("Wed, 21 Oct 2099 07:28:00", 900.0),
        ("soon", None),
        ("", None),
    ],
)
def test_a_wait_that_is_asked_for_may_be_a_number_or_any_date(given: str, seconds: float | None) -> None:
    assert wait_s(given) == seconds


def test_the_long_tail_goes_through_apprise(receiver: Any) -> None:
    pytest.importorskip("apprise", reason="the optional package apprise is not installed")
    host = receiver.url.removeprefix("http://").partition("/")[0]
    sent = resolve(CHANNELS["apprise"])(TOLD, {"urls": f"json://{host}/x"}, "notification-7")
    assert sent.answer == "taken by 1 services"
    assert "From 0.8 to 0.5." in json.loads(receiver.requests[0].body)["message"]
    with pytest.raises(Undeliverable, match="URL 1 of the channel"):
        resolve(CHANNELS["apprise"])(TOLD, {"urls": "hush://hush"}, "k")


def test_the_long_tail_does_not_reach_private_hosts_either(data_dir: object) -> None:
    pytest.importorskip("apprise", reason="the optional package apprise is not installed")
    with pytest.raises(Undeliverable, match="private address"):
        resolve(CHANNELS["apprise"])(TOLD, {"urls": "json://127.0.0.1/x"}, "k")


def test_many_alerts_fit_one_message_of_every_kind() -> None:
    many = Notice("fired", "page", "900 alerts at once", "Mostly route chat (900).", "https://d.example/alerts",
                  ref="driftline-message-1", lines=[Line("page", "x" * 200, TOLD.link)] * 200)  # fmt: skip
    for kind, address in (("slack", {"url": "https://a.example"}), ("teams", {"url": "https://a.example"}),
                          ("discord", {"url": "https://a.example"})):  # fmt: skip
        composed = resolve(CHANNELS[kind].replace(":deliver", ":compose"))(many, address, "k")
        assert "900 alerts at once" in composed.body.decode()
