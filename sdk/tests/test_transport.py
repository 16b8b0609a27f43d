"""One connection to the collector: proxies, TLS, paths, and headers that say when to come back."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from driftline_sdk.transport import Transport, _retry_after_s

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


class Seen(http.server.BaseHTTPRequestHandler):
    """Notes the request line and answers 200."""

    lines: list[str]
    signed: list[str | None]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.lines.append(self.requestline)
        self.signed.append(self.headers["Proxy-Authorization"])
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_CONNECT(self) -> None:
        self.lines.append(self.requestline)
        self.signed.append(self.headers["Proxy-Authorization"])
        self.send_error(502)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Any]:
    handler = type("Handler", (Seen,), {"lines": [], "signed": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.delenv(name, raising=False)


def lines(server: Any) -> list[str]:
    seen: list[str] = server.RequestHandlerClass.lines
    return seen


def signed(server: Any) -> list[str | None]:
    seen: list[str | None] = server.RequestHandlerClass.signed
    return seen


def test_the_endpoint_may_have_a_path(server: Any) -> None:
    answer = Transport(f"http://127.0.0.1:{server.server_port}/driftline", "").post("/v1/records", b"{}", 5)
    assert (answer.status, answer.body) == (200, b"{}")
    assert lines(server) == ["POST /driftline/v1/records HTTP/1.1"]


def test_a_proxy_from_the_environment_is_used(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://user:pass%20word@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("https_proxy", proxy)
    assert Transport("http://collector.invalid", "").post("/v1/records", b"{}", 5).status == 200
    assert Transport("https://collector.invalid", "").post("/v1/records", b"{}", 5).status == 0
    monkeypatch.setenv("no_proxy", "collector.invalid")
    assert Transport("http://collector.invalid", "").post("/v1/records", b"{}", 5).status == 0
    assert [line.rpartition(" ")[0] for line in lines(server)] == [
        "POST http://collector.invalid:80/v1/records",
        "CONNECT collector.invalid:443",
    ]
    assert signed(server) == ["Basic dXNlcjpwYXNzIHdvcmQ="] * 2


def test_tls_is_checked_against_the_system_s_authorities_or_those_named(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    endpoint = f"https://127.0.0.1:{server.server_port}"
    refused = Transport(endpoint, "").post("/v1/records", b"{}", 5)
    assert refused.status == 0
    assert "CERTIFICATE_VERIFY_FAILED" in refused.error
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Transport(endpoint, "").post("/v1/records", b"{}", 5).status == 200


def self_signed(folder: Path) -> Path:
    """A key and a certificate of its own for 127.0.0.1, in one file."""
    x509 = pytest.importorskip("cryptography.x509", reason="needs the package cryptography")
    import ipaddress

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / "server.pem"
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


def test_nobody_there_is_an_answer_too() -> None:
    answer = Transport("http://127.0.0.1:9", "").post("/v1/records", b"{}", 1)
    assert (answer.status, answer.error.partition(":")[0]) == (0, "ConnectionRefusedError")


TRICKLES = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"y"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n"),
    "delays": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("trickle", TRICKLES)
def test_an_answer_that_trickles_in_is_given_up(trickle: str) -> None:
    first, again = TRICKLES[trickle]
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        for _ in range(2):
            connection, _ = listening.accept()
            with contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(first)
                for _ in range(200):
                    connection.sendall(again)
                    time.sleep(0.05)

    threading.Thread(target=answer, daemon=True).start()
    transport = Transport(f"http://127.0.0.1:{listening.getsockname()[1]}", "")
    began = time.monotonic()
    answered = transport.post("/v1/records", b"{}", 0.3)
    assert answered.status == 0
    assert "time" in answered.error.lower()
    assert transport.get("/api/routes/r", None, 0.3)[0] == 0
    assert time.monotonic() - began < 3
    listening.close()


def test_retry_after_is_seconds_or_a_date() -> None:
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=90)
    assert _retry_after_s("2") == 2.0
    assert 80 <= (_retry_after_s(format_datetime(soon, usegmt=True)) or 0) <= 90
    odd = (None, "", "soon", "nan", "Mon, 29 Nov 99999202699999", "Mon, 01 Jan 0001 00:00:00 -0000")
    assert [_retry_after_s(one) or 0.0 for one in odd] == [0.0] * 6
    assert [_retry_after_s(odd) for odd in ("-5", "1e9", "inf")] == [0.0, 300.0, 300.0]
