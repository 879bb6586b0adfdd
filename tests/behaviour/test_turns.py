"""Whoever reads a link, what is promised holds: readers serve calls, callers read answers."""

from __future__ import annotations

import gc
import itertools
import json
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest

from tests.conftest import Connect, MakeClient, MakeRawServer, MakeServer
from tests.hosts import werkzeug_serving
from tests.programs import Program
from tests.support import (
    ACK,
    PATIENCE,
    RESPONSE,
    Pair,
    RawPeer,
    Recorder,
    Thread,
    connection_of,
    frame,
    payloads,
    story,
    wait_event,
    wait_until,
)
from wse_sync import (
    WSE_ERROR,
    JsonProtocol,
    WseClient,
    WseConnection,
    WseError,
    WseServer,
    link,
    procedures,
    turn,
)
from wse_sync.core.delivery import ACK_BYTES
from wse_sync.protocol import Data, Frame
from wse_sync.transport import framing


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the whole suite runs without the fast path."""
    monkeypatch.setattr(framing, "FAST", True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every procedure is quick, however long it takes."""
    monkeypatch.setattr(procedures, "QUICK", math.inf)
    monkeypatch.setattr(procedures, "QUICK_RUNS", 0)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer is enough for a caller to read the next one itself."""
    monkeypatch.setattr(turn, "ANSWERS", 1)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The watch sees nothing: an own thread that is held up gets no stand-in."""
    watch = turn._Watch()
    monkeypatch.setattr(turn, "_watch", watch)
    monkeypatch.setattr(turn, "LOOK", 3600.0)
    yield
    watch.rest()


def here(*_: object) -> str:
    """A procedure: the name of the thread that runs it."""
    return threading.current_thread().name


class Block:
    """A procedure that blocks until the test lets it go on."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.go = threading.Event()

    def __call__(self, *_: object) -> str:
        self.inside.set()
        wait_event(self.go, "the test lets it go on")
        return here()


def idle(server: WseServer, cid: str = "ann") -> WseConnection:
    """The one connection of a user, once all that it has brought about so far is done."""
    conn = connection_of(server, cid)
    wait_until(lambda: conn.lane.lets_start(conn.arrival), "nothing waits in the lane")
    wait_until(lambda: conn.arrival.turn._serving is None, "its own thread serves nothing")
    return conn


# The reader of a server serves


@pytest.mark.usefixtures("blind")
def test_a_quick_procedure_is_served_by_the_reader(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedures, "QUICK", math.inf)
    monkeypatch.setattr(procedures, "QUICK_RUNS", 3)
    server = make_server()
    server.register("here", here)
    client = connect(server)
    idle(server)
    threads = [client.call("here") for _ in range(6)]
    assert [name.startswith("wse-worker-") for name in threads] == [True] * 3 + [False] * 3
    assert [name.startswith("wse-reader-") for name in threads] == [False] * 3 + [True] * 3


def test_a_slow_procedure_is_served_by_a_worker(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedures, "QUICK", 0.0)
    monkeypatch.setattr(procedures, "QUICK_RUNS", 3)
    server = make_server()
    server.register("here", here)
    client = connect(server)
    idle(server)
    assert all(client.call("here").startswith("wse-worker-") for _ in range(6))


@pytest.mark.usefixtures("quick")
def test_the_thread_of_a_client_serves_nothing(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    client = connect(server)
    client.register("here", here)
    conn = connection_of(server)
    assert all(conn.call("here").startswith("wse-worker-") for _ in range(6))


@pytest.mark.usefixtures("quick")
def test_46_behind_another_listener_its_thread_serves(
    make_server: MakeServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wse_sync.farewell._GOODBYE", PATIENCE)
    server = make_server(start=False, port=None)
    server.register("here", here)
    block = Block()
    server.register("block", block)
    got = payloads(server)
    with werkzeug_serving(server.wsgi_app) as url:
        client = make_client(url)
        client.connect("ann")
        idle(server)
        assert not client.call("here").startswith("wse-")
        blocked = client.submit("block")
        wait_event(block.inside)
        client.send("number", 1)
        got.wait_for(1)
        closing = Thread(server.close)
        assert isinstance(blocked.exception(PATIENCE), WseError)
        assert closing.is_alive()
        block.go.set()
        closing.result()
        client.disconnect()


@pytest.mark.usefixtures("quick")
def test_18_a_quick_call_starts_after_the_messages_before_it(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    ran, block = Recorder(), Block()
    server.channel.on("block", block)
    server.channel.on("note", lambda conn, payload: ran.add(payload))
    server.register("note", lambda conn, payload: ran.add(payload))
    client = connect(server)
    idle(server)
    client.send("block")
    wait_event(block.inside)
    client.send("note", 1)
    answer = client.submit("note", 2)
    client.send("note", 3)
    with pytest.raises(TimeoutError):
        client.call("note", 4, timeout=0.01)
    assert ran.items == []
    block.go.set()
    answer.result(PATIENCE)
    items = ran.wait_for(4)
    assert [item for item in items if item in (1, 3)] == [1, 3]
    assert items.index(1) < items.index(2)
    assert items.index(3) < items.index(4)


@pytest.mark.usefixtures("quick")
def test_18_messages_and_quick_calls_of_one_connection_keep_their_order(
    make_server: MakeServer, connect: Connect
) -> None:
    """A call sees all messages that were sent before it."""
    server = make_server()
    seen = Recorder()
    server.channel.on("number", lambda conn, number: seen.add(number))
    server.register("seen", lambda conn, payload: len(seen))
    client = connect(server)
    idle(server)
    answers = []
    for number in range(200):
        client.send("number", number)
        answers.append(client.submit("seen"))
    counts = [answer.result(PATIENCE) for answer in answers]
    assert all(count > number for number, count in enumerate(counts))
    assert seen.items == list(range(200))


@pytest.mark.usefixtures("quick")
def test_19_a_served_call_that_blocks_holds_up_neither_messages_nor_calls(
    make_server: MakeServer, connect: Connect
) -> None:
    """The next message is what it waits for."""
    server = make_server()
    block = Block()
    server.register("block", block)
    server.register("here", here)
    server.channel.on("go", lambda conn, payload: block.go.set())
    client = connect(server)
    for _ in range(3):
        idle(server)
        block.inside.clear()
        block.go.clear()
        blocked = client.submit("block")
        wait_event(block.inside)
        assert client.call("here").startswith("wse-worker-")
        client.send("go")
        assert blocked.result(PATIENCE).startswith("wse-reader-")
        assert client.call("here").startswith("wse-")


@pytest.mark.usefixtures("quick")
def test_after_a_call_that_blocked_the_reader_serves_again(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    block = Block()
    server.register("block", block)
    server.register("here", here)
    client = connect(server)
    idle(server)
    blocked = client.submit("block")
    wait_event(block.inside)
    assert client.call("here").startswith("wse-worker-")
    block.go.set()
    blocked.result(PATIENCE)
    wait_until(lambda: client.call("here").startswith("wse-reader-"), "the reader is back")


@pytest.mark.usefixtures("quick", "eager")
@pytest.mark.parametrize("max_workers", [1, 64])
def test_19_served_calls_call_back_ten_deep(
    make_server: MakeServer, connect: Connect, max_workers: int
) -> None:
    server = make_server(max_workers=max_workers)
    client = connect(server)
    idle(server)

    def there(conn: WseConnection, depth: int) -> Any:
        return [*conn.call("nest", depth - 1), depth] if depth else [0]

    def back(depth: int) -> Any:
        return [*client.call("nest", depth - 1), depth] if depth else [0]

    server.register("nest", there)
    client.register("nest", back)
    conn = connection_of(server)
    for _ in range(5):
        assert client.call("nest", 10) == list(range(11))
        assert conn.call("nest", 10) == list(range(11))


@pytest.mark.usefixtures("quick")
def test_the_limit_of_calls_holds_for_those_that_readers_serve(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(max_workers=1)
    block = Block()
    server.register("block", block)
    server.register("here", here)
    first, second = connect(server, "ann"), connect(server, "bob")
    idle(server, "ann")
    idle(server, "bob")
    blocked = first.submit("block")
    wait_event(block.inside)
    with pytest.raises(TimeoutError):
        second.call("here", timeout=0.05)
    waits = second.submit("here")
    # That which nobody waits for any more, and this one.
    wait_until(lambda: len(server.workers._backlog) == 2, "both wait for a place")
    block.go.set()
    blocked.result(PATIENCE)
    assert waits.result(PATIENCE).startswith("wse-worker-")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_20_whatever_a_served_call_raises_the_link_goes_on(
    make_server: MakeServer, connect: Connect, error: BaseException
) -> None:
    server = make_server()
    errors = Recorder()
    server.when.error(errors)

    def fail(conn: WseConnection, payload: object) -> None:
        raise error

    server.register("fail", fail)
    server.register("here", here)
    client = connect(server)
    idle(server)
    with pytest.raises(WseError) as caught:
        client.call("fail")
    assert caught.value.code == WSE_ERROR.RP_EXECUTION_FAILED
    errors.wait_for(1)
    idle(server)
    assert client.call("here").startswith("wse-reader-")


# A served call, and the end of its link


@pytest.mark.usefixtures("quick")
def test_13_the_end_of_a_link_is_noticed_though_its_reader_serves(
    make_server: MakeServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    told, block = story(server, "disconnected"), Block()
    server.register("block", block)
    client = connect(server)
    idle(server)
    client.submit("block")
    wait_event(block.inside)
    client.disconnect()
    told.wait_for(1)
    # The watch has all the time to look: a call that is not over has no link to be read any more.
    with pytest.raises(AssertionError):
        wait_until(lambda: [r for r in caplog.records if r.levelname == "ERROR"], patience=0.1)
    assert not server.clients
    block.go.set()
    server.close()


@pytest.mark.usefixtures("quick")
def test_45_a_call_that_outlives_its_link_does_not_keep_close_from_returning(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wse_sync.server.LAST_WAIT", 0.1)
    monkeypatch.setattr("wse_sync.farewell.LAST_WAIT", 0.1)
    server = make_server()
    told, block = story(server, "disconnected"), Block()
    server.register("block", block)
    client = connect(server)
    idle(server)
    client.submit("block")
    wait_event(block.inside)
    client.disconnect()
    told.wait_for(1)
    server.close(timeout=0.1)
    block.go.set()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("drops", [True, False])
def test_19_a_served_call_may_drop_its_connection_or_close_the_server(
    make_server: MakeServer, connect: Connect, drops: bool
) -> None:
    server = make_server()
    told, done = story(server, "disconnected"), threading.Event()

    def end(conn: WseConnection, payload: object) -> None:
        conn.drop("out") if drops else server.close()
        done.set()

    server.register("end", end)
    client = connect(server)
    idle(server)
    with pytest.raises(ConnectionError):
        client.call("end")
    wait_event(done)
    code, reason = (1000, "out") if drops else (1012, "wse.by-server")
    assert told.wait_for(1) == [("disconnected", code, reason)]


@pytest.mark.usefixtures("quick")
def test_19_a_served_call_may_disconnect_the_client_that_called(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    client = connect(server)
    idle(server)
    server.register("leave", lambda conn, payload: client.disconnect())
    with pytest.raises(ConnectionError):
        client.call("leave")
    assert client.wait(PATIENCE)


@pytest.mark.usefixtures("quick")
def test_38_a_served_call_that_outlives_its_link_answers_over_the_next(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    block, got = Block(), payloads(server)
    server.register("block", block)
    with Pair(server, make_client) as pair:
        idle(server)
        blocked = pair.client.submit("block")
        wait_event(block.inside)
        pair.cut()
        pair.back()
        pair.client.send("number", 1)
        got.wait_for(1)
        block.go.set()
        assert blocked.result(PATIENCE).startswith("wse-reader-")
        assert_counts_agree(pair.client, pair.conn)


@pytest.mark.usefixtures("quick")
def test_38_a_served_call_that_waits_for_its_client_goes_on_over_the_next_link(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    block = Block()
    server.register("ask", lambda conn, payload: conn.call("block"))
    with Pair(server, make_client) as pair:
        idle(server)
        pair.client.register("block", block)
        for _ in range(3):
            block.inside.clear()
            block.go.clear()
            answer = pair.client.submit("ask")
            wait_event(block.inside)
            pair.cut()
            block.go.set()
            pair.back()
            assert answer.result(PATIENCE).startswith("wse-worker-")
        assert_counts_agree(pair.client, pair.conn)


@pytest.mark.usefixtures("quick")
def test_45_a_server_that_was_closed_amid_calls_is_kept_by_nobody(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    """The watch has seen its calls, and has not looked since."""
    server = WseServer(lambda auth: auth.accept("ann"), port=0).start()
    server.register("long", lambda conn, payload: wait_until(lambda: seen(conn)))

    def seen(conn: WseConnection) -> bool:
        return conn.arrival.turn in turn._watch._seen

    client = WseClient(server.url)
    client.connect()
    idle(server)
    client.call("long")
    client.disconnect()
    server.close()
    gone = weakref.ref(server)
    del server, client

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    wait_until(is_gone, "nobody keeps it")


FORK = """
import math, os, threading, warnings
from wse_sync import WseClient, WseServer, procedures

# From 3.12 on: a thread may be left that is about to end. What a fork makes of threads is tested.
warnings.simplefilter("ignore", DeprecationWarning)
procedures.QUICK, procedures.QUICK_RUNS = math.inf, 0


def serve():
    go = threading.Event()
    server = WseServer(lambda auth: auth.accept("ann"), port=0)
    server.register("block", lambda conn, payload: go.wait(20))
    server.channel.on("go", lambda conn, payload: go.set())
    with server, WseClient(server.url) as client:
        client.connect()
        blocked = client.submit("block")
        client.send("go")
        return blocked.result(10)


assert serve()
child = os.fork()
if child == 0:
    print("child", serve(), flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
print("parent", serve(), status)
"""


def test_a_call_that_blocks_is_noticed_in_the_child_of_a_fork() -> None:
    with Program(FORK) as program:
        assert program.line() == "child True"
        assert program.line() == "parent True 0"
        assert program.end() == (0, [], [])


# The thread that calls reads


class Watched(JsonProtocol):
    """Tells which thread has unpacked which answer last."""

    def __init__(self) -> None:
        self.readers = Recorder()

    def unpack(self, data: Data) -> Frame:
        unpacked = super().unpack(data)
        if unpacked.type == RESPONSE:
            self.readers.add(threading.current_thread().name)
        return unpacked


def aside(link_of: Callable[[], Any], call: Callable[[], object]) -> None:
    """Calls until the own thread of the link has stepped aside."""
    wait_until(lambda: (call(), link_of().turn._state is turn._FREE)[1], "it has stepped aside")


def link_of(client: WseClient) -> Any:
    return client.connection._link


def assert_counts_agree(client: WseClient, conn: WseConnection) -> None:
    """What each end has sent, the other has received."""
    here, there = client.connection.session, conn.session
    wait_until(
        lambda: (here.received, there.received) == (there._written, here._written),
        lambda: f"{here.received}/{there._written} {there.received}/{here._written}",
    )


def test_a_thread_that_calls_in_a_row_reads_its_own_answers(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_SOON", PATIENCE)  # on a slow machine, too
    server = make_server()
    server.register("echo", lambda conn, payload: payload)
    protocol = Watched()
    client = connect(server, protocol=protocol)
    for number in range(turn.ANSWERS):
        assert client.call("echo", number) == number
    assert set(protocol.readers.items) == {protocol.readers.items[0]}
    assert protocol.readers.items[0].startswith("wse-client-")
    caller = threading.current_thread().name
    wait_until(lambda: client.call("echo") is None and caller in protocol.readers.items)


@pytest.mark.usefixtures("eager")
def test_a_server_that_calls_in_a_row_reads_its_own_answers(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_SOON", PATIENCE)  # on a slow machine, too
    protocol = Watched()
    server = make_server(protocol=protocol)
    client = connect(server)
    client.register("echo", lambda payload: payload)
    conn = connection_of(server)
    caller = threading.current_thread().name
    wait_until(lambda: conn.call("echo") is None and caller in protocol.readers.items)
    client.send("ignored")
    assert conn.call("echo", 1) == 1


@pytest.fixture
def ready(make_server: MakeServer, connect: Connect, eager: None) -> Iterator[WseClient]:
    """A client with a session whose callers read; its server has some procedures."""
    server = make_server()
    server.register("echo", lambda conn, payload: payload)
    server.register("size", lambda conn, size: "x" * size)

    def push(conn: WseConnection, payload: Any) -> Any:
        conn.send("number", payload)
        return payload

    def push_late(conn: WseConnection, payload: Any) -> Any:
        pushing = threading.Timer(0.001, conn.send, ("number", payload))
        pushing.daemon = True
        pushing.start()
        return payload

    server.register("push", push)
    server.register("push late", push_late)
    client = connect(server, reconnect=True)
    aside(lambda: link_of(client), lambda: client.call("echo"))
    yield client
    assert_counts_agree(client, connection_of(server))


@pytest.mark.parametrize("procedure", ["push", "push late"])
def test_16_messages_before_and_after_an_answer_arrive_in_order(
    ready: WseClient, procedure: str
) -> None:
    """Without another call, which would find them."""
    got = payloads(ready)
    for number in range(20):
        aside(lambda: link_of(ready), lambda: ready.call("echo"))
        assert ready.call(procedure, number) == number
        assert got.wait_for(number + 1)[-1] == number
    assert got.items == list(range(20))


@pytest.mark.parametrize("size", [70_000, ACK_BYTES + 50_000, 3_000_000])
def test_large_answers_are_read_and_counted(ready: WseClient, size: int) -> None:
    for _ in range(5):
        aside(lambda: link_of(ready), lambda: ready.call("echo"))
        assert ready.call("size", size) == "x" * size


def test_37_many_answers_are_acknowledged(ready: WseClient) -> None:
    for number in range(300):
        assert ready.call("echo", number) == number
    assert len(ready.connection.session._kept) < 300


@pytest.mark.usefixtures("eager")
def test_23_the_time_of_a_call_that_looks_for_its_answer_runs_out(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    block = Block()
    server.register("block", block)
    server.register("echo", lambda conn, payload: payload)
    client = connect(server)
    aside(lambda: link_of(client), lambda: client.call("echo"))
    for timeout in (0.0, 0.001, 0.05):
        with pytest.raises(TimeoutError):
            client.call("block", timeout=timeout)
        assert client.call("echo", timeout) == timeout
    block.go.set()


def test_27_threads_that_call_when_one_of_them_reads(ready: WseClient) -> None:
    def call(number: int) -> list[int]:
        return [ready.call("echo", number * 100 + index) for index in range(50)]

    threads = [Thread(partial(call, number)) for number in range(8)]
    for number, thread in enumerate(threads):
        assert thread.result() == [number * 100 + index for index in range(50)]


def test_16_messages_after_a_pause_arrive(ready: WseClient) -> None:
    got = payloads(ready)
    for number in range(1, 6):
        ready.call("echo")
        wait_until(lambda: link_of(ready).turn._state is turn._OWN, "its own thread reads again")
        ready.call("push late", number)
        got.wait_for(number)


# What comes instead of the answer


def play(
    make_raw_server: MakeRawServer, connect: Connect, instead: Callable[[RawPeer, str], None]
) -> WseClient:
    """A client whose callers read; to the call "odd" the server does something else."""

    def script(peer: RawPeer) -> None:
        peer.welcome()
        with suppress(OSError):  # the test ends the link, or waits for the client to do so
            while True:
                kind, data = peer.recv()
                if kind == "close":
                    return
                type, _, stamp = json.loads(data)
                if type == "odd":
                    instead(peer, stamp)
                elif stamp:
                    peer.send_frame(RESPONSE, type, stamp)

    client = connect(make_raw_server(script))
    aside(lambda: link_of(client), lambda: client.call("echo"))
    return client


def encoded(*data: str) -> bytes:
    return b"".join(framing.encode(each) for each in data)


PING = b"\x89\x01p"
ODD: dict[str, Callable[[str], list[bytes]]] = {
    "a message before it": lambda stamp: [encoded(frame("m", 1), frame(RESPONSE, 1, stamp))],
    "a message behind it": lambda stamp: [encoded(frame(RESPONSE, 1, stamp), frame("m", 1))],
    "a late answer before it": lambda stamp: [
        encoded(frame(RESPONSE, 0, "old"), frame(RESPONSE, 1, stamp), frame("m", 1))
    ],
    "a call before it": lambda stamp: [encoded(frame("count", 1, "c"), frame(RESPONSE, 1, stamp))],
    "a call behind it": lambda stamp: [encoded(frame(RESPONSE, 1, stamp), frame("count", 1, "c"))],
    "a ping before it": lambda stamp: [PING + encoded(frame(RESPONSE, 1, stamp), frame("m", 1))],
    "a ping behind it": lambda stamp: [
        encoded(frame(RESPONSE, 1, stamp)) + PING,
        encoded(frame("m", 1)),
    ],
    "pieces": lambda stamp: [
        bytes([byte]) for byte in encoded(frame(RESPONSE, 1, stamp), frame("m", 1))
    ],
    "half of a message behind it": lambda stamp: [
        encoded(frame(RESPONSE, 1, stamp), frame("m", 1))[:-3],
        encoded(frame("m", 1))[-3:],
    ],
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_16_whatever_stands_beside_an_answer_arrives_once(
    make_raw_server: MakeRawServer, connect: Connect, odd: Callable[[str], list[bytes]]
) -> None:
    def instead(peer: RawPeer, stamp: str) -> None:
        for piece in odd(stamp):
            peer.socket.sendall(piece)

    client = play(make_raw_server, connect, instead)
    got = payloads(client, "m")
    client.register("count", got)
    for number in range(1, 6):
        assert client.call("odd") == 1
        assert got.wait_for(number) == [1] * number
        aside(lambda: link_of(client), lambda: client.call("echo"))


@pytest.mark.usefixtures("eager")
def test_for_an_acknowledgement_the_own_thread_reads_one_answer_and_steps_aside_again(
    make_raw_server: MakeRawServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "GRACE", 1.0)
    monkeypatch.setattr(link, "_SOON", PATIENCE)  # on a slow machine, too

    acknowledged = Recorder()

    def script(peer: RawPeer) -> None:
        peer.grant()
        count = 0
        while (received := peer.recv())[0] != "close":
            _, payload, stamp = json.loads(received[1])
            if stamp:
                count += 1
                acknowledged.add(count)
                peer.socket.sendall(encoded(frame(ACK, count), frame(RESPONSE, payload, stamp)))

    client = connect(make_raw_server(script), reconnect=True)
    aside(lambda: link_of(client), lambda: client.call("echo"))
    monkeypatch.setattr(turn, "ANSWERS", 1000)
    for number in range(3):
        assert client.call("echo", number) == number
        wait_until(lambda: link_of(client).turn._state is turn._FREE, "it has stepped aside")
        assert client.connection.session.acknowledged == acknowledged.items[-1]
    link_of(client).turn.recall()  # or the own thread would be away until GRACE is over


def end_amid_a_frame(peer: RawPeer) -> None:
    peer.socket.sendall(b"\x81\x7ex")
    peer.abort()


ENDS: dict[str, tuple[Callable[[RawPeer], None], list[object]]] = {
    "close": (lambda peer: peer.socket.sendall(b"\x88\x02\x03\xe8"), [1000, ""]),
    "end": (lambda peer: peer.abort(), [1006, ""]),
    "no protocol": (lambda peer: peer.socket.sendall(b"\x83\x00"), [1002]),
    "no text": (lambda peer: peer.socket.sendall(b"\x81\x01\xff"), [1007]),
    "no frame of ours": (lambda peer: peer.send("{}"), [1000, "wse.protocol-error"]),
    "too big": (lambda peer: peer.socket.sendall(b"\x81\x7f" + b"\x7f" * 8), [1009]),
    "half an answer": (end_amid_a_frame, [1006, ""]),
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("end", "told"), ENDS.values(), ids=ENDS)
def test_24_the_end_of_a_link_fails_the_call_that_reads(
    make_raw_server: MakeRawServer,
    connect: Connect,
    end: Callable[[RawPeer], None],
    told: list[object],
) -> None:
    client = play(make_raw_server, connect, lambda peer, stamp: end(peer))
    with pytest.raises(ConnectionError) as caught:
        client.call("odd", timeout=None)
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.RP_DISCONNECT
    assert caught.value.details["disconnected"][: len(told)] == told
    assert client.wait(PATIENCE)


@pytest.mark.usefixtures("eager")
def test_24_the_end_of_a_link_is_noticed_when_nobody_reads(
    make_raw_server: MakeRawServer, connect: Connect
) -> None:
    client = play(make_raw_server, connect, lambda peer, stamp: None)
    closed = Recorder()
    client.when.closed(closed)
    calling = Thread(lambda: client.call("odd", timeout=None))
    wait_until(lambda: len(client.connection._callers) == 1)
    client.disconnect()
    with pytest.raises(ConnectionError):
        calling.result()
    closed.wait_for(1)


@pytest.mark.usefixtures("eager")
def test_24_a_caller_that_is_held_up_amid_a_frame_is_the_only_one_that_reads_it(
    make_raw_server: MakeRawServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its link ends meanwhile, and the own thread comes back."""
    monkeypatch.setattr(link, "_SOON", PATIENCE)  # an answer is soon on a slow machine, too
    held, go = threading.Event(), threading.Event()
    measure = framing.Input._measure_text

    def hold(self: framing.Input) -> tuple[int, int]:
        if threading.current_thread().name == "test-helper" and not held.is_set():
            held.set()
            wait_event(go)
        return measure(self)

    def call_on() -> None:
        while True:  # until there is no link any more; some answers are read by the own thread
            client.call("echo", timeout=None)

    client = play(make_raw_server, connect, lambda peer, stamp: None)
    reading = link_of(client)
    monkeypatch.setattr(framing.Input, "_measure_text", hold)
    calling = Thread(call_on)
    wait_event(held)
    client.disconnect()
    assert reading.wait(PATIENCE)
    go.set()
    with pytest.raises(ConnectionError):
        calling.result()


@pytest.mark.usefixtures("eager")
def test_23_a_caller_does_not_look_for_an_answer_that_was_read_before(
    make_raw_server: MakeRawServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The own thread has read it, and stepped aside, before the caller could look."""
    monkeypatch.setattr(link, "_SOON", 2 * PATIENCE)
    client = play(make_raw_server, connect, lambda peer, stamp: None)
    reading = link_of(client).turn
    wait_until(lambda: reading._state is turn._OWN)
    monkeypatch.setattr(turn, "GRACE", PATIENCE)
    claim = turn.Turn.claim

    def claim_late(self: turn.Turn) -> bool:
        wait_until(lambda: not len(client.connection._callers))
        wait_until(lambda: self._state is turn._FREE)
        return claim(self)

    monkeypatch.setattr(turn.Turn, "claim", claim_late)
    assert Thread(lambda: client.call("echo", timeout=None)).result() == "echo"


@pytest.mark.usefixtures("eager")
def test_38_a_call_that_reads_outlives_its_link(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    block = Block()
    server.register("echo", lambda conn, payload: payload)
    server.register("block", block)
    with Pair(server, make_client) as pair:
        for _ in range(3):
            block.inside.clear()
            block.go.clear()
            aside(lambda: link_of(pair.client), lambda: pair.client.call("echo"))
            calling = Thread(lambda: pair.client.call("block"))
            wait_event(block.inside)
            pair.cut()
            block.go.set()
            pair.back()
            assert calling.result()
        assert_counts_agree(pair.client, pair.conn)


@pytest.mark.usefixtures("eager")
def test_33_a_client_whose_callers_read_jumps(make_server: MakeServer, connect: Connect) -> None:
    first, second = make_server(), make_server()
    for server in (first, second):
        server.register("echo", lambda conn, payload: payload)
    client = connect(first)
    for server in (second, first, second):
        aside(lambda: link_of(client), lambda: client.call("echo"))
        client.jump(server.url)
        assert client.call("echo", 1) == 1


# Ctrl-C


@pytest.mark.parametrize("procedure", ["echo", "late", "push"])
def test_29_ctrl_c_anywhere_while_a_call_reads_loses_nothing(
    make_server: MakeServer, make_client: MakeClient, eager: None, procedure: str
) -> None:
    """At each place where the interpreter looks for signals, once the call has the turn.

    That is where a function begins, and where one of C has returned. The answer comes soon, late,
    or behind a message.
    """
    server = make_server(conn_per_user=2)
    answered = threading.Event()

    def late(conn: WseConnection, payload: Any) -> Any:
        answered.wait(0.005)
        return payload

    def push(conn: WseConnection, payload: Any) -> Any:
        conn.send("number", payload)
        return payload

    for name, handler in (("late", late), ("push", push), ("echo", lambda conn, p: p)):
        server.register(name, handler)
    client = make_client(server, reconnect=True, ping_interval=None)
    client.connect("ann")
    got = payloads(client)
    link = link_of(client)
    pushed, calls, place, came = 0, itertools.count(), 0, True
    while came:
        aside(lambda: link_of(client), lambda: client.call("echo"))
        call = partial(client.call, procedure, next(calls))
        has_turn, came = call_interrupted_at(place, call)
        place += has_turn
        came = came or not has_turn
        assert client.call("echo", "after", timeout=PATIENCE) == "after"
        assert link_of(client) is link
        pushed += procedure == "push"
    assert place > 10
    assert sorted(got.wait_for(pushed)) == list(range(pushed))
    assert_counts_agree(client, connection_of(server))
    assert len(client.connection._callers) == 0


def call_interrupted_at(place: int, call: Callable[[], object]) -> tuple[bool, bool]:
    """Calls, with Ctrl-C at one place after the turn was claimed.

    Returns:
        Whether the call had the turn, and whether there are so many places that Ctrl-C came.
    """
    has_turn = came = False
    places = -1

    def interrupt(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal has_turn, came, places
        if frame.f_code is turn.Turn.claim.__code__ and event in ("call", "return"):
            has_turn = event == "call" or bool(argument)
        ours = "wse_sync" in frame.f_code.co_filename
        if has_turn and ours and event in ("call", "c_return"):
            places += 1
            if places == place:
                came = True
                raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        call()
    except KeyboardInterrupt:
        assert came
    finally:
        sys.setprofile(None)
    return has_turn or came, came
