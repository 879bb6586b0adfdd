"""Bytes with two ends: what every stream promises, over sockets, over TLS, and in memory."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Callable, NamedTuple

import pytest

from tests.programs import Program
from tests.support import PATIENCE, Thread, wait_until
from tests.transport.ends import Certificates
from wse_sync import clock
from wse_sync.loop import Loop
from wse_sync.transport import memory
from wse_sync.transport.base import AT_ONCE, LinkLost, Stream
from wse_sync.transport.stream import SocketStream, WaitingStream, open_stream

MORE_THAN_FITS = 8 * 2**20
SMALL_BUFFER = 16 * 1024


class Pipe(NamedTuple):
    """Two streams that are each other's other end."""

    here: Stream
    there: Stream


def connected(*, small: bool = True) -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection; with small buffers, so that few bytes fill them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if small:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    if small:
        for sock in (here, there):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    return here, there


def encrypted(certificates: Certificates) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    here, there = connected()
    context = certificates.server("localhost")
    accepting = Thread(lambda: context.wrap_socket(there, server_side=True))
    client = certificates.client().wrap_socket(here, server_hostname="localhost")
    return client, accepting.result()


def plain_pipe(certificates: Certificates) -> Pipe:
    here, there = connected()
    return Pipe(open_stream(here), open_stream(there))


def local_pipe(certificates: Certificates) -> Pipe:
    here, there = socket.socketpair()
    return Pipe(open_stream(here), open_stream(there))


def waiting_pipe(certificates: Certificates) -> Pipe:
    """As on a platform without MSG_DONTWAIT."""
    here, there = connected()
    return Pipe(WaitingStream(here), WaitingStream(there))


def tls_pipe(certificates: Certificates) -> Pipe:
    here, there = encrypted(certificates)
    return Pipe(open_stream(here), open_stream(there))


def memory_pipe(certificates: Certificates) -> Pipe:
    here, there = memory.pair(SMALL_BUFFER)
    return Pipe(here.stream, there.stream)


PIPES: dict[str, Callable[[Certificates], Pipe]] = {
    "plain": plain_pipe,
    "local": local_pipe,
    "waiting": waiting_pipe,
    "tls": tls_pipe,
    "memory": memory_pipe,
}


@pytest.fixture(params=PIPES)
def pipe(
    request: pytest.FixtureRequest, certificates: Certificates, loop_at_rest: None
) -> Iterator[Pipe]:
    made = PIPES[request.param](certificates)
    yield made
    for stream in made:
        stream.abort()
        stream.close()


@pytest.fixture
def loop(loop_at_rest: None) -> Iterator[Loop]:
    made = Loop()
    yield made
    made.rest(PATIENCE)


def fill(stream: Stream) -> bytes:
    """Sends until nothing more goes, and returns what went."""
    sent = b""
    piece = b"0123456789" * 1000
    while len(sent) < MORE_THAN_FITS:
        count = stream.send(piece)
        sent += piece[:count]
        if not count:
            return sent
    raise AssertionError("it takes everything")


def take(stream: Stream, count: int) -> bytes:
    """Receives exactly so many bytes."""

    def receive() -> bytes:
        data = b""
        while len(data) < count:
            piece = stream.receive(min(65536, count - len(data)))
            assert piece, f"the end after {len(data)} of {count} bytes"
            data += piece
        return data

    return Thread(receive).result()


def test_bytes_arrive_in_order(pipe: Pipe) -> None:
    assert pipe.here.send(b"one ") == 4
    assert pipe.here.send(memoryview(b"two")) == 3
    assert take(pipe.there, 7) == b"one two"


def test_receive_brings_no_more_than_asked(pipe: Pipe) -> None:
    pipe.here.send(b"0123456789")
    assert take(pipe.there, 4) == b"0123"
    assert take(pipe.there, 6) == b"456789"


def test_send_never_waits_and_says_how_much_went(pipe: Pipe) -> None:
    sent = Thread(lambda: fill(pipe.here)).result()
    assert take(pipe.there, len(sent)) == sent


def test_a_send_that_did_not_fit_goes_on_where_it_stopped(pipe: Pipe) -> None:
    rest = memoryview(bytes(number % 253 for number in range(2**20)))
    whole = bytes(rest)
    received = Thread(lambda: take(pipe.there, len(whole)))
    while rest:
        rest = rest[pipe.here.send(rest) :]
    assert received.result() == whole


def test_progress_of_a_long_send_is_seen(pipe: Pipe) -> None:
    """Otherwise a slow link that is busy with one long message looks dead."""
    whole = b"x" * MORE_THAN_FITS
    rest = memoryview(whole)
    rest = rest[pipe.here.send(rest) :]
    while len(rest) > MORE_THAN_FITS // 2:
        before = len(rest)
        for _ in range(1000):
            rest = rest[pipe.here.send(rest) :]
            if len(rest) < before:
                break
            pipe.there.receive(65536)
        assert len(rest) < before, "many bytes have left, and no send has said so"


def test_a_watcher_is_called_when_there_is_room_again(pipe: Pipe, loop: Loop) -> None:
    sent = fill(pipe.here)
    room = threading.Event()

    def flush() -> None:
        pipe.here.unwatch(loop)
        room.set()

    pipe.here.watch(loop, flush)
    take(pipe.there, len(sent))
    assert room.wait(PATIENCE)


def test_a_watcher_is_called_also_if_there_is_room_already(pipe: Pipe, loop: Loop) -> None:
    room = threading.Event()

    def flush() -> None:
        pipe.here.unwatch(loop)
        room.set()

    pipe.here.watch(loop, flush)
    assert room.wait(PATIENCE)


def test_a_watcher_that_went_is_not_called(pipe: Pipe, loop: Loop) -> None:
    def let_it_look() -> None:
        done = threading.Event()
        loop.call_later(0.0, done.set)
        assert done.wait(PATIENCE)

    sent = fill(pipe.here)
    called: list[int] = []
    pipe.here.watch(loop, lambda: called.append(1))
    pipe.here.unwatch(loop)
    pipe.here.unwatch(loop)
    let_it_look()  # the system may have found room by itself before that
    before = len(called)
    take(pipe.there, len(sent))
    let_it_look()
    assert len(called) == before


def test_a_watcher_is_called_when_the_stream_is_cut(pipe: Pipe, loop: Loop) -> None:
    """Whoever waits to send must learn that nothing goes any more."""
    fill(pipe.here)
    errors: list[LinkLost] = []

    def flush() -> None:
        try:
            pipe.here.send(b"x")
        except LinkLost as lost:
            errors.append(lost)
            pipe.here.unwatch(loop)

    pipe.here.watch(loop, flush)
    pipe.here.abort()
    wait_until(lambda: errors)
    assert errors[0].code == 1006


def test_abort_wakes_the_receiver_at_both_ends(pipe: Pipe) -> None:
    reading = [Thread(partial(ended, stream)) for stream in pipe]
    pipe.here.abort()
    for thread in reading:
        thread.result()


def ended(stream: Stream) -> None:
    """Returns at the end of a stream, whichever way it comes."""
    with contextlib.suppress(LinkLost):
        while stream.receive(1000):
            continue


def test_after_abort_nothing_can_be_sent(pipe: Pipe) -> None:
    pipe.here.abort()
    with pytest.raises(LinkLost) as caught:
        pipe.here.send(b"x")
    assert caught.value.code == 1006


def test_abort_and_close_may_come_often_and_from_any_thread(pipe: Pipe) -> None:
    threads = [Thread(pipe.here.abort) for _ in range(4)]
    for thread in threads:
        thread.result()
    pipe.here.close()
    pipe.here.close()
    pipe.here.abort()
    with pytest.raises(LinkLost):
        pipe.here.send(b"x")


def test_what_was_sent_before_an_abort_can_still_be_received(pipe: Pipe) -> None:
    pipe.here.send(b"last words")
    pipe.here.abort()
    assert take(pipe.there, 10) == b"last words"
    ended(pipe.there)


def test_after_finish_the_other_side_sees_the_end_and_is_still_heard(pipe: Pipe) -> None:
    pipe.there.send(b"before")
    assert pipe.here.receive(100) == b"before"
    pipe.here.send(b"last words")
    for _ in range(2):
        pipe.here.finish()
    assert take(pipe.there, 10) == b"last words"
    assert Thread(lambda: pipe.there.receive(100)).result() == b""
    if isinstance(getattr(pipe.there, "_sock", None), ssl.SSLSocket):
        return  # to OpenSSL, an end without a goodbye is the end of both directions
    pipe.there.send(b"so long")
    pipe.there.finish()
    assert take(pipe.here, 7) == b"so long"
    assert Thread(lambda: pipe.here.receive(100)).result() == b""


def test_bytes_that_come_are_life_and_their_end_is_not_later(pipe: Pipe) -> None:
    before = clock.monotonic()
    pipe.there.last_received = 0.0
    pipe.here.send(b"x")
    take(pipe.there, 1)
    assert before <= pipe.there.last_received <= clock.monotonic()


def test_both_directions_at_once(pipe: Pipe) -> None:
    """Under TLS these are four threads and two objects that take one at a time."""
    data = bytes(number % 247 for number in range(2**20))

    def send_all(stream: Stream) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[stream.send(rest) :]

    senders = [Thread(partial(send_all, stream)) for stream in pipe]
    receivers = [Thread(partial(take, stream, len(data))) for stream in pipe]
    for sender in senders:
        sender.result(6 * PATIENCE)
    for receiver in receivers:
        assert receiver.result(6 * PATIENCE) == data


# Sockets


def test_the_stream_fits_the_socket(certificates: Certificates) -> None:
    here, there = connected()
    client, server = encrypted(certificates)
    with here, there, client, server:
        assert type(open_stream(here)) is SocketStream
        assert type(open_stream(client)) is WaitingStream


def test_without_dontwait_every_socket_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = connected()
    with here, there, monkeypatch.context() as patch:
        patch.delattr(socket, "MSG_DONTWAIT")
        assert type(open_stream(here)) is WaitingStream


def test_without_poll_a_socket_is_waited_for_with_select(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = connected()
    stream = WaitingStream(here)
    with there, monkeypatch.context() as patch:
        patch.delattr(select, "poll")
        reading = Thread(lambda: stream.receive(10))
        there.sendall(b"x")
        assert reading.result() == b"x"
        ending = Thread(lambda: stream.receive(10))
        stream.abort()
        assert ending.result() == b""
    stream.close()


@pytest.mark.parametrize("kind", [SocketStream, WaitingStream])
def test_a_socket_that_is_not_ours_is_shut_down_and_left_open(kind: type[SocketStream]) -> None:
    here, there = connected()
    with here, there:
        stream = kind(here, False)
        stream.close()
        assert here.fileno() >= 0
        there.settimeout(PATIENCE)
        assert there.recv(1) == b""


@pytest.mark.parametrize("kind", [SocketStream, WaitingStream])
def test_a_socket_that_is_ours_is_closed(kind: type[SocketStream]) -> None:
    here, there = connected()
    with there:
        kind(here).close()
        assert here.fileno() == -1


@pytest.mark.parametrize("kind", [SocketStream, WaitingStream])
def test_small_frames_are_not_held_back(kind: type[SocketStream]) -> None:
    here, there = connected()
    with here, there:
        kind(here)
        assert here.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("kind", [SocketStream, WaitingStream])
def test_a_timeout_that_the_socket_had_is_forgotten(kind: type[SocketStream]) -> None:
    """It would end a link that is merely idle, and tear frames."""
    here, there = connected()
    with here, there:
        here.settimeout(0.01)
        stream = kind(here)
        reading = Thread(lambda: stream.receive(10))
        assert not threading.Event().wait(0.1)
        there.sendall(b"late")
        assert reading.result() == b"late"


@pytest.mark.parametrize("kind", [SocketStream, WaitingStream])
def test_a_reset_is_a_lost_link(kind: type[SocketStream]) -> None:
    here, there = connected()
    stream = kind(here)
    here.send(b"never read")
    there.close()
    with pytest.raises(LinkLost) as caught:
        stream.receive(10)
    assert caught.value.code == 1006
    stream.close()


def test_tls_bytes_that_are_buffered_are_not_waited_for(certificates: Certificates) -> None:
    """One record brings more than one receive takes; the socket has nothing to read then."""
    here, there = encrypted(certificates)
    stream = open_stream(there)
    here.sendall(b"x" * 10_000)
    for _ in range(100):
        assert len(take(stream, 100)) == 100
    stream.close()
    here.close()


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_the_end_of_tls_is_an_end_with_or_without_its_goodbye(
    certificates: Certificates, says_goodbye: bool
) -> None:
    """Without it, some versions of Python see an end and others an error."""
    here, there = encrypted(certificates)
    stream = open_stream(there)
    with contextlib.closing(stream):
        if says_goodbye:
            here.settimeout(0.0)
            with contextlib.suppress(ssl.SSLWantReadError):
                here.unwrap()
        here.close()
        Thread(lambda: ended(stream)).result()


def test_junk_in_tls_is_a_lost_link(certificates: Certificates) -> None:
    here, there = encrypted(certificates)
    stream = open_stream(there)
    raw = socket.socket(fileno=here.detach())
    raw.sendall(b"this is no record of TLS" * 10)
    with pytest.raises(LinkLost) as caught:
        Thread(lambda: stream.receive(10)).result()
    assert caught.value.code == 1006
    raw.close()
    stream.close()


def test_an_offer_is_a_send(pipe: Pipe) -> None:
    offer = pipe.here.offer
    assert offer(b"one ", AT_ONCE) == 4
    assert offer(memoryview(b"two"), AT_ONCE) == 3
    assert take(pipe.there, 7) == b"one two"
    taken = 1
    while taken:
        try:
            taken = offer(b"x" * MORE_THAN_FITS, AT_ONCE)
        except BlockingIOError:
            break
    pipe.here.abort()
    with pytest.raises((LinkLost, OSError)):
        offer(b"x", AT_ONCE)


def test_only_a_plain_socket_sends_in_one_step(pipe: Pipe) -> None:
    assert pipe.here.sends_in_one_step is (type(pipe.here) is SocketStream)


def test_29_ctrl_c_when_the_system_call_returns_does_not_hide_how_much_was_sent() -> None:
    """The peer interrupts as soon as it has read: the likeliest moment of all."""
    with Program(INTERRUPTED) as program:
        assert program.end() == (0, ["500 interrupts, 0 unknown"], [])


INTERRUPTED = """
import signal
import socket
import threading

from wse_sync.transport.base import AT_ONCE
from wse_sync.transport.stream import open_stream

here, there = socket.socketpair()
stream = open_stream(here)
main = threading.get_ident()


def interrupt(*_):
    raise KeyboardInterrupt


def read():
    while there.recv(100):
        signal.pthread_kill(main, signal.SIGINT)


signal.signal(signal.SIGINT, interrupt)
threading.Thread(target=read, daemon=True).start()
unknown = 0
for _ in range(500):
    sent = []
    try:
        sent += map(stream.offer, (b"x" * 10,), (AT_ONCE,))
        while True:
            pass
    except KeyboardInterrupt:
        unknown += sent != [10]
print("500 interrupts,", unknown, "unknown")
"""


# A look at what comes soon

SOON = 0.01


@pytest.mark.parametrize("kind", [plain_pipe, local_pipe])
def test_what_comes_soon_is_gathered(
    kind: Callable[[Certificates], Pipe], certificates: Certificates
) -> None:
    here, there = kind(certificates)
    with closing_both(here, there):
        pieces: list[bytes] = [b"before"]
        there.send(b"abcdef")
        assert here.gather(pieces, 4, PATIENCE)
        assert here.gather(pieces, 4, PATIENCE)
        assert pieces == [b"before", b"abcd", b"ef"]
        sending = Thread(lambda: there.send(b"later"))
        assert here.gather(pieces, 100, PATIENCE)
        assert (pieces[3:], sending.result()) == ([b"later"], 5)


@pytest.mark.parametrize("kind", PIPES.values(), ids=PIPES)
def test_what_does_not_come_is_not_waited_for(
    kind: Callable[[Certificates], Pipe], certificates: Certificates
) -> None:
    here, there = kind(certificates)
    with closing_both(here, there):
        pieces: list[bytes] = []
        assert not here.gather(pieces, 100, SOON)
        there.send(b"abc")
        assert here.gather(pieces, 100, SOON) == bool(pieces)
        assert b"".join(pieces) + (b"" if pieces else here.receive(100)) == b"abc"


@pytest.mark.parametrize("kind", [plain_pipe, local_pipe])
def test_an_end_is_left_for_whoever_receives(
    kind: Callable[[Certificates], Pipe], certificates: Certificates
) -> None:
    here, there = kind(certificates)
    with closing_both(here, there):
        there.send(b"abc")
        there.abort()
        pieces: list[bytes] = []
        assert here.gather(pieces, 100, PATIENCE)
        assert not here.gather([], 100, PATIENCE)
        assert pieces == [b"abc"]
        assert here.receive(100) == b""


def test_a_reset_is_left_for_whoever_receives(certificates: Certificates) -> None:
    sock, other = connected()
    here = open_stream(sock)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    pieces: list[bytes] = []
    assert not here.gather(pieces, 100, PATIENCE)
    assert pieces == []
    with contextlib.suppress(LinkLost):
        assert here.receive(100) == b""
    here.close()


def test_what_is_gathered_is_life(certificates: Certificates) -> None:
    here, there = plain_pipe(certificates)
    with closing_both(here, there):
        before = clock.monotonic()
        here.last_received = 0.0
        assert not here.gather([], 100, 0.0)
        assert here.last_received == 0.0
        there.send(b"abc")
        assert here.gather([], 100, PATIENCE)
        assert here.last_received >= before


def test_29_ctrl_c_when_the_system_call_returns_loses_nothing_that_came(
    certificates: Certificates,
) -> None:
    """At each place where the interpreter looks for signals."""
    here, there = plain_pipe(certificates)
    events = iter(range(0))

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        ours = frame.f_code is SocketStream.gather.__code__
        if ours and event != "return" and next(events, None) == 0:
            raise KeyboardInterrupt

    with closing_both(here, there):
        pieces: list[bytes] = []
        for place in range(20):
            there.send(bytes([place]))
            events = iter(range(-place, 1))
            sys.setprofile(interrupt)
            try:
                with contextlib.suppress(KeyboardInterrupt):
                    here.gather(pieces, 100, PATIENCE)
            finally:
                sys.setprofile(None)
        here.gather(pieces, 100, 0.0)
        assert b"".join(pieces) == bytes(range(20))


def test_without_poll_nothing_is_gathered(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SocketStream, "can_gather", False)
    here, there = plain_pipe(certificates)
    with closing_both(here, there):
        there.send(b"abc")
        pieces: list[bytes] = []
        assert not here.gather(pieces, 100, SOON)
        assert (pieces, here.receive(100)) == ([], b"abc")


@contextlib.contextmanager
def closing_both(*streams: Stream) -> Iterator[None]:
    try:
        yield
    finally:
        for stream in streams:
            stream.abort()
            stream.close()
