"""The promises over TLS: in our own listener, in the client, and in a WSGI server."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable

import pytest
import trustme
from werkzeug.serving import make_server as make_werkzeug_server

from tests.conftest import Connect, MakeClient, MakeServer
from tests.faults import FaultProxy
from tests.support import (
    PATIENCE,
    QUICK,
    RawClient,
    Recorder,
    Thread,
    wait_event,
    wait_until,
)
from wse_sync import WSE_ERROR, WSE_STATUS, WseError, WseServer

KB, MB = 2**10, 2**20
KERNEL_BYTES = 16 * MB
"""More than the kernel keeps of one connection that nobody reads, both ends together."""


@dataclass(frozen=True)
class Certificates:
    """A certificate authority, and contexts that use it."""

    authority: trustme.CA

    def server(self, *names: str) -> ssl.SSLContext:
        """For a server of these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        """For a client that trusts the authority."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates(trustme.CA())


def wss(port: int) -> str:
    return f"wss://127.0.0.1:{port}/"


@contextlib.contextmanager
def own_listener(server: WseServer, context: ssl.SSLContext) -> Iterator[str]:
    server.start()
    yield server.url


@contextlib.contextmanager
def mounted(server: WseServer, context: ssl.SSLContext) -> Iterator[str]:
    """Behind a WSGI server that hands out an SSLSocket."""
    listener = make_werkzeug_server(
        "127.0.0.1", 0, server.wsgi_app, threaded=True, ssl_context=context
    )
    # It looks so often whether it is to end.
    serve = partial(listener.serve_forever, poll_interval=0.01)
    thread = threading.Thread(target=serve, name="werkzeug", daemon=True)
    thread.start()
    try:
        yield wss(listener.server_port)
        server.close()
    finally:
        listener.shutdown()
        thread.join(PATIENCE)
        listener.server_close()


Mount = Callable[[WseServer, ssl.SSLContext], "contextlib.AbstractContextManager[str]"]
every_mount = pytest.mark.parametrize("mount", [own_listener, mounted], ids=["own", "wsgi"])


@pytest.fixture
def make_tls_server(make_server: MakeServer, certificates: Certificates) -> MakeServer:
    def make(*args: Any, **options: Any) -> WseServer:
        return make_server(*args, ssl_context=certificates.server(), **options)

    return make


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@every_mount
def test_tls_carries_logins_messages_and_calls(
    make_server: MakeServer,
    make_client: MakeClient,
    certificates: Certificates,
    mount: Mount,
    version: ssl.TLSVersion,
) -> None:
    context = certificates.server()
    server = make_server(start=False, ssl_context=context)
    server.register("add", lambda conn, pair: sum(pair))
    up, down = Recorder(), Recorder()
    server.channel.on("up", lambda conn, payload: up.add(payload))
    trusting = certificates.client()
    trusting.maximum_version = trusting.minimum_version = version
    with mount(server, context) as url:
        assert url.startswith("wss://")
        client = make_client(url, ssl_context=trusting)
        client.channel.on("down", lambda payload: down.add(payload))
        client.register("double", lambda payload: payload * 2)
        assert client.connect("ann") == {"hello": "ann"}
        assert client.call("add", [1, 2]) == 3
        (conn,) = server.clients["ann"].conns.values()
        assert conn.call("double", 4) == 8
        for number in range(200):
            client.send("up", number)
            server.broadcast("down", number)
        assert up.wait_for(200) == list(range(200))
        assert down.wait_for(200) == list(range(200))
        client.disconnect("bye")


def test_tls_the_upgrade_knows_that_it_was_encrypted(
    make_tls_server: MakeServer, connect: Connect, certificates: Certificates
) -> None:
    schemes = Recorder()

    def identify(auth: Any) -> None:
        schemes.add(auth.environ["wsgi.url_scheme"])
        auth.accept("ann")

    connect(make_tls_server(identify), ssl_context=certificates.client())
    assert schemes.items == ["https"]


@pytest.mark.parametrize("reconnect", [False, True])
@pytest.mark.parametrize("failing", ["unknown-authority", "wrong-name"])
def test_31_a_failed_certificate_check_is_final(
    make_server: MakeServer,
    make_client: MakeClient,
    certificates: Certificates,
    failing: str,
    reconnect: bool,
) -> None:
    wrong_name = failing == "wrong-name"
    context = certificates.server("other.example") if wrong_name else certificates.server()
    server = make_server(ssl_context=context)
    trusted = certificates.client() if wrong_name else None
    with FaultProxy(server.url) as proxy:
        client = make_client(
            wss(proxy.port), reconnect=reconnect, backoff=QUICK, ssl_context=trusted
        )
        with pytest.raises(ConnectionError) as caught:
            client.connect("ann")
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
        assert "certificate" in str(caught.value).lower()
        assert client.status == WSE_STATUS.OFFLINE
        assert proxy.accepted == 1


BAD_CERTIFICATES: dict[str, tuple[str, str]] = {
    "expired": ("has expired", "renewed at the server"),
    "not yet valid": ("not yet valid", "the clock of this machine"),
    "self-signed": ("self", "create_default_context(cafile="),
    "unknown authority": ("certificate", "create_default_context(cafile="),
    "another name": ("localhost", "dial a name that it has"),
    "another address": ("127.0.0.1", "dial a name that it has"),
}
"""What is wrong with it: what the error says, and what it advises."""


def bad_certificate(authority: trustme.CA, kind: str) -> ssl.SSLContext:
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if kind == "self-signed":
        # The authority's own: nobody but itself has signed it.
        with authority.cert_pem.tempfile() as cert, authority.private_key_pem.tempfile() as key:
            context.load_cert_chain(cert, key)
        return context
    names = ("localhost", "127.0.0.1")
    options: dict[str, Any] = {}
    if kind == "expired":
        options = {"not_before": now - 2 * day, "not_after": now - day}
    elif kind == "not yet valid":
        options = {"not_before": now + day, "not_after": now + 2 * day}
    elif kind.startswith("another"):
        names = ("other.example", "192.0.2.1")
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


@pytest.mark.parametrize("kind", BAD_CERTIFICATES)
def test_a_bad_certificate_is_final_and_the_error_says_what_to_do(
    make_server: MakeServer, make_client: MakeClient, certificates: Certificates, kind: str
) -> None:
    server = make_server(ssl_context=bad_certificate(certificates.authority, kind))
    unknown = kind in ("self-signed", "unknown authority")
    trusted = None if unknown else certificates.client()
    host = "localhost" if kind == "another name" else "127.0.0.1"
    with FaultProxy(server.url) as proxy:
        client = make_client(
            f"wss://{host}:{proxy.port}/", reconnect=True, backoff=QUICK, ssl_context=trusted
        )
        with pytest.raises(ConnectionError) as caught:
            client.connect("ann")
        assert proxy.accepted == 1
    text = str(caught.value)
    assert "is not trusted" in text
    for part in BAD_CERTIFICATES[kind]:
        assert part in text
    assert client.status == WSE_STATUS.OFFLINE


def test_31_a_certificate_check_that_fails_after_a_lost_link_is_final_too(
    make_server: MakeServer, make_client: MakeClient, certificates: Certificates
) -> None:
    trusted = make_server(ssl_context=certificates.server())
    stranger = make_server(ssl_context=Certificates(trustme.CA()).server())
    with FaultProxy(trusted.url) as proxy:
        client = make_client(
            wss(proxy.port), reconnect=True, backoff=QUICK, ssl_context=certificates.client()
        )
        client.connect("ann")
        proxy.target = stranger.url
        proxy.cut()
        assert client.wait(PATIENCE)
        assert client.status == WSE_STATUS.OFFLINE
        assert proxy.accepted == 2


def test_tls_a_client_that_says_ws_to_a_wss_server_gets_an_error(
    make_tls_server: MakeServer, make_client: MakeClient, certificates: Certificates
) -> None:
    server = make_tls_server()
    with pytest.raises(ConnectionError) as caught:
        make_client(f"ws://127.0.0.1:{server.port}/", connect_timeout=2.0).connect("ann")
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
    # And nobody else is disturbed.
    client = make_client(server, ssl_context=certificates.client())
    assert client.connect("ann") == {"hello": "ann"}


def test_tls_a_client_that_says_wss_to_a_ws_server_gets_an_error(
    make_server: MakeServer, make_client: MakeClient, certificates: Certificates
) -> None:
    server = make_server()
    url = server.url.replace("ws", "wss")
    client = make_client(url, connect_timeout=2.0, ssl_context=certificates.client())
    with pytest.raises(ConnectionError) as caught:
        client.connect("ann")
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR


def test_tls_a_server_may_ask_for_a_certificate_of_the_client(
    make_server: MakeServer, make_client: MakeClient, certificates: Certificates
) -> None:
    asking = certificates.server()
    certificates.authority.configure_trust(asking)
    asking.verify_mode = ssl.CERT_REQUIRED
    server = make_server(ssl_context=asking)
    known = certificates.client()
    certificates.authority.issue_cert("ann@example.org").configure_cert(known)
    assert make_client(server, ssl_context=known).connect("ann") == {"hello": "ann"}
    with pytest.raises(ConnectionError):
        make_client(server, ssl_context=certificates.client()).connect("bob")
    assert list(server.clients) == ["ann"]


@every_mount
def test_tls_large_messages_go_both_ways_at_the_same_time(
    make_server: MakeServer, connect: Connect, certificates: Certificates, mount: Mount
) -> None:
    context = certificates.server()
    server = make_server(start=False, ssl_context=context)
    server.register("echo", lambda conn, payload: payload)
    with mount(server, context) as url:
        client = connect(url, ssl_context=certificates.client())
        client.register("echo", lambda payload: payload)
        (conn,) = server.clients["ann"].conns.values()
        large = "x" * (3 * MB)
        futures = [caller.submit("echo", large) for _ in range(3) for caller in (client, conn)]
        for future in futures:
            assert future.result(60) == large
        client.disconnect()


@every_mount
def test_27_many_threads_share_one_connection_over_tls(
    make_server: MakeServer, connect: Connect, certificates: Certificates, mount: Mount
) -> None:
    context = certificates.server()
    server = make_server(start=False, ssl_context=context)
    server.register("echo", lambda conn, payload: payload)
    with mount(server, context) as url:
        client = connect(url, ssl_context=certificates.client())
        client.register("echo", lambda payload: payload)
        (conn,) = server.clients["ann"].conns.values()
        callers: list[Any] = [client, conn]
        padding = "x" * 5000

        def calls(caller: Any, number: int) -> list[Any]:
            return [caller.call("echo", [number, i, padding])[:2] for i in range(20)]

        threads = [
            Thread(partial(calls, caller, number)) for caller in callers for number in range(25)
        ]
        for number, thread in enumerate(threads):
            assert thread.result(60) == [[number % 25, i] for i in range(20)]
        client.disconnect()


@every_mount
def test_16_messages_of_many_threads_all_arrive_over_tls(
    make_server: MakeServer, connect: Connect, certificates: Certificates, mount: Mount
) -> None:
    context = certificates.server()
    server = make_server(start=False, ssl_context=context)
    up, down = Recorder(), Recorder()
    server.channel.on("up", lambda conn, payload: up.add(tuple(payload[:2])))
    with mount(server, context) as url:
        client = connect(url, ssl_context=certificates.client())
        client.channel.on("down", lambda payload: down.add(tuple(payload[:2])))
        padding = "x" * 20_000

        def send_all(number: int) -> None:
            for i in range(50):
                client.send("up", [number, i, padding])
                server.broadcast("down", [number, i, padding])

        for thread in [Thread(partial(send_all, number)) for number in range(8)]:
            thread.result(60)
        for received in (up.wait_for(400, 60), down.wait_for(400, 60)):
            for number in range(8):
                own = [i for sender, i in received if sender == number]
                assert own == list(range(50))
        client.disconnect()


@every_mount
def test_42_a_reader_that_stops_is_closed_and_delays_nobody_over_tls(
    make_server: MakeServer, connect: Connect, certificates: Certificates, mount: Mount
) -> None:
    context = certificates.server()
    server = make_server(start=False, ssl_context=context, max_queue_bytes=MB)
    ends, numbers = Recorder(), Recorder()
    server.when.disconnected(lambda conn, code, reason: ends.add((conn.cid, code, reason)))
    with mount(server, context) as url:
        reader = connect(url, "reader", ssl_context=certificates.client())
        reader.channel.on("blob", lambda payload: numbers.add(payload[0]))
        stopped = RawClient(
            url,
            sslopt={"context": certificates.client()},
            sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)],
        )
        stopped.login("stopped")
        sent, reached = 0, 2
        while reached == 2:
            assert sent * 64 * KB < MB + KERNEL_BYTES
            reached = server.broadcast("blob", [sent, "x" * (64 * KB)])
            sent += 1
            numbers.wait_for(sent)
        assert reached == 1
        assert ends.wait_for(1) == [("stopped", 1013, "wse.slow-consumer")]
        assert server.broadcast("blob", [sent, ""]) == 1
        assert numbers.wait_for(sent + 1) == list(range(sent + 1))
        stopped.abort()
        reader.disconnect()


def test_42_a_clients_send_waits_for_room_over_tls(
    make_tls_server: MakeServer, connect: Connect, certificates: Certificates
) -> None:
    server = make_tls_server(max_queue_bytes=256 * KB)
    release, numbers = threading.Event(), Recorder()

    def slow(conn: Any, payload: Any) -> None:
        release.wait()
        numbers.add(payload[0])

    server.channel.on("blob", slow)
    total = 2 * KERNEL_BYTES // (64 * KB)
    sent: list[int] = []

    def flood() -> None:
        for number in range(total):
            client.send("blob", [number, "x" * (64 * KB)])
            sent.append(number)

    try:
        client = connect(server, max_queue_bytes=256 * KB, ssl_context=certificates.client())
        flooding = Thread(flood)
        wait_until(lambda: sent)
        # All of it never fits into the kernel and the queues, so this cannot be through.
        flooding.join(1.0)
        assert flooding.is_alive()
        release.set()
        flooding.result(60)
        assert numbers.wait_for(total, 60) == list(range(total))
    finally:
        release.set()


@pytest.mark.parametrize(
    "opening",
    [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 99],
    ids=["silence", "half-a-hello", "plain-http", "junk"],
)
def test_21_a_handshake_that_never_comes_blocks_nobody(
    make_tls_server: MakeServer,
    make_client: MakeClient,
    certificates: Certificates,
    opening: bytes,
) -> None:
    server = make_tls_server()
    server.register("echo", lambda conn, payload: payload)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stranger = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
            stack.enter_context(stranger)
            stranger.sendall(opening)
        client = make_client(server, ssl_context=certificates.client())
        assert client.connect("ann") == {"hello": "ann"}
        assert client.call("echo", 1) == 1
        # And closing does not wait for those handshakes.
        Thread(server.close).result()


def test_07_a_tls_handshake_that_never_comes_ends_after_auth_timeout(
    make_tls_server: MakeServer,
) -> None:
    server = make_tls_server(auth_timeout=0.2)
    stranger = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    with stranger, contextlib.suppress(ConnectionError):
        assert stranger.recv(1) == b""


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_31_a_cut_tls_link_comes_back(
    make_tls_server: MakeServer,
    make_client: MakeClient,
    certificates: Certificates,
    reset: bool,
) -> None:
    server = make_tls_server(resume_window=0)
    gone = Recorder()
    server.when.disconnected(lambda conn, code, reason: gone.add(code))
    server.register("echo", lambda conn, payload: payload)
    with FaultProxy(server.url) as proxy:
        client = make_client(
            wss(proxy.port), reconnect=True, backoff=QUICK, ssl_context=certificates.client()
        )
        ready, closed = Recorder(), Recorder()
        client.when.ready(ready)
        client.when.closed(lambda code, reason: closed.add(code))
        client.connect("ann")
        proxy.refuse()
        proxy.cut(reset=reset)
        assert gone.wait_for(1) == [1006]  # or it would be pushed out by the client that is back
        proxy.admit()
        ready.wait_for(2)
        assert closed.items == [1006]
        assert client.call("echo", 1) == 1


def test_35_a_silent_tls_link_is_noticed_by_both_ends(
    make_tls_server: MakeServer, connect: Connect, certificates: Certificates
) -> None:
    beat: dict[str, Any] = {"ping_interval": 0.3, "ping_timeout": 0.3}
    server = make_tls_server(**beat)
    gone, closed = Recorder(), Recorder()
    server.when.disconnected(lambda conn, code, reason: gone.add(code))
    with FaultProxy(server.url) as proxy:
        client = connect(wss(proxy.port), ssl_context=certificates.client(), **beat)
        client.when.closed(lambda code, reason: closed.add(code))
        proxy.stall()
        assert gone.wait_for(1) == [1006]
        assert closed.wait_for(1) == [1006]
        assert client.wait(PATIENCE)


@every_mount
def test_45_close_flushes_and_says_so_over_tls(
    make_server: MakeServer, connect: Connect, certificates: Certificates, mount: Mount
) -> None:
    context = certificates.server()
    server = make_server(start=False, ssl_context=context)
    with mount(server, context) as url:
        client = connect(url, ssl_context=certificates.client())
        numbers, closed = Recorder(), Recorder()
        client.channel.on("number", lambda payload: numbers.add(payload[0]))
        client.when.closed(closed)
        for number in range(200):
            server.broadcast("number", [number, "x" * 10_000])
        server.close(timeout=PATIENCE)
        assert numbers.wait_for(200) == list(range(200))
        assert closed.wait_for(1) == [(1012, "wse.by-server")]


def test_45_close_leaves_no_tls_connection_behind(
    make_tls_server: MakeServer, certificates: Certificates
) -> None:
    server = make_tls_server()
    entered, release = threading.Event(), threading.Event()

    def block(conn: Any, payload: Any) -> None:
        entered.set()
        wait_event(release)

    server.channel.on("block", block)
    peers = [RawClient(server.url, sslopt={"context": certificates.client()}) for _ in range(3)]
    try:
        for number, peer in enumerate(peers):
            peer.login(f"user-{number}")
        peers[0].send_frame("block")
        wait_event(entered)
        Thread(lambda: server.close(timeout=0.5)).result()
        for peer in peers:
            assert peer.recv_close() == (1012, "wse.by-server")
    finally:
        release.set()
        for peer in peers:
            peer.abort()
