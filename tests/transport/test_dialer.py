"""Opening a WebSocket: what is passed on, how it fails, and how it is given up."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Callable

import pytest

from tests.conftest import MakeRawServer
from tests.support import PATIENCE, RawPeer, Thread, wait_event
from tests.transport.ends import LIMIT, Certificates, read_request
from wse_sync.transport.base import LinkLost
from wse_sync.transport.dialed import DialedTransport, NetworkDialer
from wse_sync.transport.dialing import DialFailed

SUBPROTOCOL = "wse-default-json"
NO_LIMIT = 3600.0
"""Nobody waits that long: an attempt that is not given up shows as a test that hangs."""


@pytest.fixture
def opened(loop_at_rest: None) -> Iterator[ExitStack]:
    """What is closed at the end of the test."""
    with ExitStack() as stack:
        yield stack


def dial(
    url: str,
    *,
    timeout: float | None = PATIENCE,
    context: ssl.SSLContext | None = None,
    dialer: NetworkDialer | None = None,
    **options: Any,
) -> DialedTransport:
    transport = (dialer or NetworkDialer()).dial(url, SUBPROTOCOL, timeout, context, options)
    transport.max_message_bytes = LIMIT
    return transport


def failure(url: str, **options: Any) -> DialFailed:
    with pytest.raises(DialFailed) as caught:
        dial(url, **options)
    return caught.value


def headers_of(
    make_raw_server: MakeRawServer, opened: ExitStack, url: str = "", **options: Any
) -> dict[str, str]:
    """What the server sees of an attempt with these options."""
    seen: list[dict[str, str]] = []

    def note(peer: RawPeer) -> None:
        seen.append({**peer.headers, "path": peer.path, "host": peer.request.host})

    server = make_raw_server(note)
    transport = dial(server.url + url, **options)
    opened.callback(transport.stream.close)
    with pytest.raises(LinkLost):
        transport.attach(lambda data: None)
        transport.read()
    return seen[0]


class Listener:
    """Accepts one connection after the other and has `serve` answer it, in a thread."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-listener", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            self.accepted.set()
            with sock:
                sock.settimeout(PATIENCE)
                try:
                    self._serve(sock)
                except OSError:
                    continue  # the client went

    def close(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        finally:
            self._listener.close()
            self._thread.join(PATIENCE)


def listen(opened: ExitStack, serve: Callable[[socket.socket], None]) -> Listener:
    listener = Listener(serve)
    opened.callback(listener.close)
    return listener


def hear_out(peer: RawPeer) -> None:
    """Says nothing until the other side has closed."""
    peer.recv_close()


def until_end(sock: socket.socket) -> None:
    """Says nothing until the other side has gone."""
    while sock.recv(4096):
        continue


# What is passed on


def test_it_asks_for_the_subprotocol_and_says_no_origin(
    make_raw_server: MakeRawServer, opened: ExitStack
) -> None:
    """An origin is for browsers; a server checks it when there is one."""
    headers = headers_of(make_raw_server, opened, "some/path?a=b")
    assert headers["path"] == "/some/path?a=b"
    assert "origin" not in headers
    assert "sec-websocket-extensions" not in headers


def test_options_of_the_library_are_passed_on(
    make_raw_server: MakeRawServer, opened: ExitStack
) -> None:
    headers = headers_of(
        make_raw_server,
        opened,
        header={"Authorization": "Bearer 123"},
        cookie="a=1; b=2",
        origin="https://example.org",
        host="example.net",
    )
    assert headers["authorization"] == "Bearer 123"
    assert headers["cookie"] == "a=1; b=2"
    assert headers["origin"] == "https://example.org"
    assert headers["host"] == "example.net"


def test_the_options_that_are_given_stay_as_they_were(
    make_raw_server: MakeRawServer, opened: ExitStack
) -> None:
    options = {"header": ["X-A: 1"], "sslopt": {"ciphers": "DEFAULT"}}
    server = make_raw_server(hear_out)
    transport = NetworkDialer().dial(server.url, SUBPROTOCOL, PATIENCE, None, options)
    opened.callback(transport.stream.close)
    assert options == {"header": ["X-A: 1"], "sslopt": {"ciphers": "DEFAULT"}}


def test_options_cannot_undo_what_reading_relies_on(
    make_raw_server: MakeRawServer, opened: ExitStack
) -> None:
    """Fragments, the check of UTF-8, and the time limit are ours."""

    def serve(peer: RawPeer) -> None:
        peer.send("ä" * 10)
        peer.recv_close()

    transport = dial(
        make_raw_server(serve).url,
        fire_cont_frame=False,
        skip_utf8_validation=False,
        enable_multithread=True,
    )
    opened.callback(transport.stream.close)
    transport.attach(lambda data: None)
    assert transport.read() == "ä" * 10
    assert transport.peer.startswith("ws://127.0.0.1:")


def test_a_redirect_is_followed(make_raw_server: MakeRawServer, opened: ExitStack) -> None:
    def serve(peer: RawPeer) -> None:
        peer.send("arrived")
        peer.recv_close()

    target = make_raw_server(serve)
    server = listen(opened, redirect_to(lambda: target.url))
    transport = dial(f"ws://127.0.0.1:{server.port}/")
    opened.callback(transport.stream.close)
    transport.attach(lambda data: None)
    assert transport.read() == "arrived"


def redirect_to(url: Callable[[], str]) -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        read_request(sock)
        answer = f"HTTP/1.1 302 Found\r\nLocation: {url()}\r\nContent-Length: 0\r\n\r\n"
        sock.sendall(answer.encode())

    return serve


def test_redirects_end_somewhere(opened: ExitStack) -> None:
    ports: list[int] = []
    server = listen(opened, redirect_to(lambda: f"ws://127.0.0.1:{ports[0]}/"))
    ports.append(server.port)
    assert not failure(f"ws://127.0.0.1:{server.port}/").final
    assert not failure(f"ws://127.0.0.1:{server.port}/", redirect_limit=0).final


def serve_as_proxy(sock: socket.socket, requests: list[bytes]) -> None:
    requests.append(read_request(sock))
    sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    peer = RawPeer(sock, 0)
    peer.accept()
    peer.send(f"you wanted {peer.request.host}")
    until_end(sock)


def test_a_proxy_is_gone_through(opened: ExitStack) -> None:
    requests: list[bytes] = []
    proxy = listen(opened, lambda sock: serve_as_proxy(sock, requests))
    transport = dial(
        "ws://server.invalid:81/",
        http_proxy_host="127.0.0.1",
        http_proxy_port=proxy.port,
        http_proxy_auth=("ann", "secret"),
    )
    opened.callback(transport.stream.close)
    transport.attach(lambda data: None)
    assert transport.read() == "you wanted server.invalid:81"
    assert requests[0].startswith(b"CONNECT server.invalid:81 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " in requests[0]


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_that_the_environment_names_is_gone_through(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    requests: list[bytes] = []
    proxy = listen(opened, lambda sock: serve_as_proxy(sock, requests))
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
    transport = dial("ws://server.invalid:81/")
    opened.callback(transport.stream.close)
    transport.attach(lambda data: None)
    assert transport.read() == "you wanted server.invalid:81"
    assert requests[0].startswith(b"CONNECT server.invalid:81 HTTP/1.1\r\n")


def test_a_proxy_that_refuses_is_a_failure(opened: ExitStack) -> None:
    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    proxy = listen(opened, serve)
    told = failure(
        "ws://server.invalid:81/", http_proxy_host="127.0.0.1", http_proxy_port=proxy.port
    )
    assert "407" in str(told)


# Failures


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 426, 451])
def test_a_status_that_blames_the_client_is_final(
    make_raw_server: MakeRawServer, status: int
) -> None:
    server = make_raw_server(lambda peer: peer.reject(status), accept=False)
    told = failure(server.url)
    assert told.final
    assert told.status == status
    assert str(status) in str(told) and server.url in str(told)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_asks_for_patience_is_not_final(
    make_raw_server: MakeRawServer, status: int
) -> None:
    told = failure(make_raw_server(lambda peer: peer.reject(status), accept=False).url)
    assert not told.final
    assert told.status == status


def answering(opened: ExitStack, answer: bytes) -> str:
    """The URL of a server that answers every request with these bytes."""

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(answer)
        sock.shutdown(socket.SHUT_WR)

    return f"ws://127.0.0.1:{listen(opened, serve).port}/"


def test_what_the_server_says_is_told(opened: ExitStack) -> None:
    url = answering(
        opened,
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 28\r\n\r\n\nNot from here.\nAnd go away.",
    )
    told = str(failure(url))
    assert "403" in told and "Not from here." in told
    assert "go away" not in told


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nno colon\r\n\r\n",
        b"HTTP/1.1 \xff\xfe\r\n\r\n",
        b"HTTP/1.1 abc def\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: gopher://x/\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: nonsense\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nSet-Cookie: a<b=1; domain=x\r\nLocation: ws://x.invalid/\r\n\r\n",
    ],
)
def test_an_odd_answer_is_a_failure_that_may_pass(opened: ExitStack, answer: bytes) -> None:
    url = answering(opened, answer)
    told = failure(url)
    assert not told.final
    assert url in str(told)


def endless(opened: ExitStack, head: bytes, more: bytes) -> str:
    """The URL of a server whose answer has no end."""

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(head)
        while True:
            sock.sendall(more)

    return f"ws://127.0.0.1:{listen(opened, serve).port}/"


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
ENDLESS = {
    "headers": (SWITCHING, b"X-More: and more\r\n" * 100, 101, False),
    "one header": (SWITCHING + b"X-Long: ", b"x" * 1000, 101, False),
    "a final body": (b"HTTP/1.1 404 No\r\nContent-Length: 9999999\r\n\r\n", b"x", 404, True),
    "a body": (b"HTTP/1.1 503 Busy\r\nContent-Length: 9999999\r\n\r\n", b"x", 503, False),
    "no HTTP": (b"", b"\0" * 1000, 0, False),
}


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("redirected", [False, True])
def test_6_an_answer_without_end_is_not_read_for_ever(
    opened: ExitStack, kind: str, redirected: bool
) -> None:
    head, more, status, final = ENDLESS[kind]
    url = endless(opened, head, more)
    if redirected:  # to a socket that the library opens
        target = url
        url = f"ws://127.0.0.1:{listen(opened, redirect_to(lambda: target)).port}/"
    told = failure(url, timeout=NO_LIMIT)
    assert (told.status, told.final) == (status, final)
    # Of a body, older versions of the library take what they get.
    assert "more than 8192 bytes" in str(told) or "body" in kind


def test_a_port_where_nobody_listens_is_a_failure_that_may_pass() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        told = failure(f"ws://127.0.0.1:{taken.getsockname()[1]}/")
    assert not told.final
    assert told.status is None
    assert isinstance(told.__cause__, ConnectionRefusedError)


def test_a_host_that_is_unknown_is_a_failure_that_may_pass() -> None:
    assert not failure("ws://host.invalid/").final


def test_a_server_that_is_silent_is_given_up_after_the_timeout(opened: ExitStack) -> None:
    server = listen(opened, until_end)
    assert not failure(f"ws://127.0.0.1:{server.port}/", timeout=0.05).final


@pytest.mark.parametrize("options", [{"header": 5}, {"cookie": 5}, {"http_proxy_host": 5}])
def test_options_that_make_no_sense_are_a_failure(
    opened: ExitStack, options: dict[str, Any]
) -> None:
    failure(answering(opened, b""), **options)


# TLS


def tls_server(opened: ExitStack, context: ssl.SSLContext) -> str:
    """The URL of a server that greets those who trust it."""

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as wrapped:
            peer = RawPeer(wrapped, 0)
            peer.accept()
            peer.send("welcome")
            until_end(wrapped)

    return f"wss://127.0.0.1:{listen(opened, serve).port}/"


def test_a_certificate_that_is_trusted_is_no_obstacle(
    opened: ExitStack, certificates: Certificates
) -> None:
    transport = dial(tls_server(opened, certificates.server()), context=certificates.client())
    opened.callback(transport.stream.close)
    transport.attach(lambda data: None)
    assert transport.read() == "welcome"


def test_a_certificate_that_is_not_trusted_is_final(
    opened: ExitStack, certificates: Certificates
) -> None:
    url = tls_server(opened, certificates.server())
    for context in (None, Certificates().client()):
        told = failure(url, context=context)
        assert told.final
        assert "certificate" in str(told)


def test_a_certificate_of_another_host_is_final(
    opened: ExitStack, certificates: Certificates
) -> None:
    url = tls_server(opened, certificates.server("example.org"))
    assert failure(url, context=certificates.client()).final


def test_plain_text_where_tls_was_expected_may_pass(
    make_raw_server: MakeRawServer, certificates: Certificates
) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    listener = Listener(serve)
    try:
        told = failure(f"wss://127.0.0.1:{listener.port}/", context=certificates.client())
        assert not told.final
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("mode", "checks_name"),
    [
        (ssl.CERT_REQUIRED, True),
        (ssl.CERT_REQUIRED, False),
        (ssl.CERT_OPTIONAL, False),
        (ssl.CERT_NONE, False),
    ],
)
def test_the_context_keeps_what_its_owner_has_set(
    opened: ExitStack, certificates: Certificates, mode: ssl.VerifyMode, checks_name: bool
) -> None:
    """The library sets both on the context that it is given."""
    context = certificates.client()
    context.check_hostname = checks_name
    context.verify_mode = mode
    names = ("127.0.0.1",) if checks_name else ("example.org",)
    transport = dial(tls_server(opened, certificates.server(*names)), context=context)
    opened.callback(transport.stream.close)
    assert context.verify_mode is mode
    assert context.check_hostname is checks_name


def test_a_context_that_checks_nothing_lets_anybody_be_the_server(opened: ExitStack) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    transport = dial(tls_server(opened, Certificates().server("example.org")), context=context)
    opened.callback(transport.stream.close)
    transport.attach(lambda data: None)
    assert transport.read() == "welcome"


def test_other_tls_options_go_with_a_context(opened: ExitStack, certificates: Certificates) -> None:
    """Here: the name to ask the server for."""
    url = tls_server(opened, certificates.server("example.org"))
    context = certificates.client()
    transport = dial(url, context=context, sslopt={"server_hostname": "example.org"})
    opened.callback(transport.stream.close)
    assert context.verify_mode is ssl.CERT_REQUIRED


# Giving up


def test_an_attempt_that_was_given_up_before_it_began_fails(
    make_raw_server: MakeRawServer,
) -> None:
    dialer = NetworkDialer()
    dialer.abort()
    server = make_raw_server(hear_out)
    assert not failure(server.url, dialer=dialer, timeout=NO_LIMIT).final


@pytest.mark.parametrize("phase", ["nothing", "half an answer", "redirected"])
def test_34_an_attempt_is_given_up_while_http_is_under_way(opened: ExitStack, phase: str) -> None:
    asked = threading.Event()

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        if phase == "half an answer":
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso")
        asked.set()
        until_end(sock)

    server = listen(opened, serve)
    url = f"ws://127.0.0.1:{server.port}/"
    if phase == "redirected":
        target = url
        url = f"ws://127.0.0.1:{listen(opened, redirect_to(lambda: target)).port}/"
    give_up(url, asked)


def test_34_an_attempt_is_given_up_while_tls_is_under_way(opened: ExitStack) -> None:
    asked = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.recv(1)
        asked.set()
        until_end(sock)

    give_up(f"wss://127.0.0.1:{listen(opened, serve).port}/", asked)


def give_up(url: str, asked: threading.Event, **options: Any) -> None:
    dialer = NetworkDialer()
    attempt = Thread(lambda: failure(url, dialer=dialer, timeout=NO_LIMIT, **options))
    wait_event(asked, "the attempt has begun")
    dialer.abort()
    assert not attempt.result().final


def test_giving_up_an_attempt_that_has_worked_harms_nothing(
    make_raw_server: MakeRawServer, opened: ExitStack
) -> None:
    """Whoever gives up may come a moment too late: what to do with the link is his to say."""

    def serve(peer: RawPeer) -> None:
        peer.send("welcome")
        peer.recv_close()

    dialer = NetworkDialer()
    transport = dial(make_raw_server(serve).url, dialer=dialer)
    opened.callback(transport.stream.close)
    dialer.abort()
    transport.attach(lambda data: None)
    dialer.abort()
    assert Thread(transport.read).result() == "welcome"


def test_giving_up_nothing_is_no_error() -> None:
    NetworkDialer().abort()


def test_nothing_is_left_open_by_a_failure(
    make_raw_server: MakeRawServer, opened: ExitStack
) -> None:
    """The fixture that watches sockets says so; here are the ways to fail after connecting."""
    failure(make_raw_server(lambda peer: peer.reject(403), accept=False).url)
    failure(make_raw_server(lambda peer: peer.abort(), accept=False).url)
    failure(answering(opened, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"))
