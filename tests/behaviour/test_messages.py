"""Promises 16 to 21: messages, their order, and what handlers may do."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Any, Callable

import pytest

from tests.conftest import Connect, MakeClient, MakeRawClient, MakeRawServer, MakeServer
from tests.support import (
    PATIENCE,
    RESPONSE,
    RawClient,
    RawPeer,
    Recorder,
    Thread,
    wait_event,
    wait_until,
)
from wse_sync import WSE_ERROR, WSE_STATUS, WseClient, WseConnection, WseError, WseServer

PAYLOADS: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**60,
    "",
    "é☃\U0001f600",
    '\u0000\n"\\',
    [],
    {},
    {"user": "é☃", "n": 1.5, "nul": None, "list": [1, [2, [3]]]},
    "x" * 100_000,
]


class Pair:
    """A client and the server's connection to it, talking to each other."""

    def __init__(self, server: WseServer, client: WseClient, conn: WseConnection) -> None:
        self.server = server
        self.client = client
        self.conn = conn


@pytest.fixture
def pair(make_server: MakeServer, connect: Connect) -> Pair:
    server = make_server()
    conns = Recorder()
    server.when.connected(conns)
    client = connect(server, "ann")
    return Pair(server, client, conns.wait_for(1)[0])


class Gate:
    """A handler that blocks until the test opens it; safe to leave closed."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def __call__(self, *_: Any) -> None:
        self.entered.set()
        self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()


# 16


def test_16_messages_arrive_with_their_connection(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=2)
    conns = Recorder()
    heard = Recorder()
    server.when.connected(conns)
    server.channel.on("chat", heard)
    clients = []
    for number, cid in enumerate(["ann", "ann", "ben"], 1):
        clients.append(connect(server, cid))
        conns.wait_for(number)  # two connections are told of in any order
    for number, client in enumerate(clients):
        client.send("chat", number)
        heard.wait_for(number + 1)
    assert heard.items == [(conn, number) for number, conn in enumerate(conns.items)]
    assert [conn.cid for conn, _ in heard.items] == ["ann", "ann", "ben"]
    assert all(conn.state == "open" for conn, _ in heard.items)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_16_payloads_arrive_as_they_were_sent_in_both_directions(pair: Pair, payload: Any) -> None:
    at_server = Recorder()
    at_client = Recorder()
    pair.server.channel.on("chat", lambda conn, got: at_server.add([got]))
    pair.client.channel.on("chat", lambda got: at_client.add([got]))
    pair.client.send("chat", payload)
    pair.conn.send("chat", payload)
    for heard in (at_server, at_client):
        ((got,),) = heard.wait_for(1)
        assert got == payload
        assert type(got) is type(payload)


def test_16_a_message_without_payload_carries_none(pair: Pair) -> None:
    at_server = Recorder()
    at_client = Recorder()
    pair.server.channel.on("chat", at_server)
    pair.client.channel.on("chat", at_client)
    pair.client.send("chat")
    pair.conn.send("chat")
    assert at_server.wait_for(1) == [(pair.conn, None)]
    assert at_client.wait_for(1) == [None]


def test_16_messages_arrive_in_the_order_in_which_they_were_sent(pair: Pair) -> None:
    at_server = Recorder()
    at_client = Recorder()
    for type in ("a", "b", "c"):
        pair.server.channel.on(type, lambda conn, payload: at_server.add(payload))
        pair.client.channel.on(type, at_client)
    for number in range(1000):
        pair.client.send("abc"[number % 3], number)
        pair.conn.send("abc"[number % 3], number)
    assert at_server.wait_for(1000) == list(range(1000))
    assert at_client.wait_for(1000) == list(range(1000))


def test_16_messages_of_several_threads_keep_the_order_of_each(pair: Pair) -> None:
    at_server = Recorder()
    at_client = Recorder()
    pair.server.channel.on("n", lambda conn, payload: at_server.add(tuple(payload)))
    pair.client.channel.on("n", lambda payload: at_client.add(tuple(payload)))

    def send(end: Any, sender: int) -> None:
        for number in range(100):
            end.send("n", (sender, number))

    ends = [pair.client, pair.conn]
    for thread in [Thread(partial(send, end, number)) for number in range(5) for end in ends]:
        thread.result()
    for heard in (at_server, at_client):
        items = heard.wait_for(500)
        assert len(items) == 500
        for sender in range(5):
            assert [number for who, number in items if who == sender] == list(range(100))


def test_16_a_binary_message_with_the_same_json_is_read_too(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    heard = Recorder()
    server.channel.on("chat", lambda conn, payload: heard.add(payload))
    raw = make_raw_client(server)
    raw.send(b'["~wse:hi",{"identity":"ann"},null]')
    assert raw.recv_frame()[0] == "~wse:welcome"
    raw.send('["chat","é☃",null]'.encode())
    assert heard.wait_for(1) == ["é☃"]


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        ('["chat"]', None),
        ('["chat",1]', 1),
        ('["chat",null,null]', None),
        (' [ "chat" , {"a":1} , null ] ', {"a": 1}),
        ('["chat",1,""]', 1),
    ],
)
def test_16_every_way_to_write_a_message_is_read(
    make_server: MakeServer, make_raw_client: MakeRawClient, data: str, payload: Any
) -> None:
    server = make_server()
    heard = Recorder()
    server.channel.on("chat", lambda conn, got: heard.add(got))
    raw = make_raw_client(server)
    raw.login("ann")
    raw.send(data)
    assert heard.wait_for(1) == [payload]


def test_16_the_frame_on_the_wire_is_an_array_of_three(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    raw = make_raw_client(server)
    raw.login("ann")
    server.send("ann", "chat", {"text": "é☃"})
    assert raw.recv_frame() == ["chat", {"text": "é☃"}, None]
    server.broadcast("empty")
    kind, data = raw.recv()
    assert kind == "text"
    assert data.replace(" ", "") == '["empty",null,null]'


# 17


def test_17_a_type_without_a_handler_goes_to_ignored(pair: Pair) -> None:
    at_server = Recorder()
    at_client = Recorder()
    pair.server.when.ignored(at_server)
    pair.client.when.ignored(at_client)
    pair.client.send("nobody", {"n": 1})
    pair.conn.send("nobody", {"n": 2})
    assert at_server.wait_for(1) == [(pair.conn, "nobody", {"n": 1})]
    assert at_client.wait_for(1) == [("nobody", {"n": 2})]


def test_17_a_type_with_a_handler_does_not(pair: Pair) -> None:
    for end in (pair.server, pair.client):
        end.channel.on("chat", Recorder())
    at_server = Recorder()
    at_client = Recorder()
    pair.server.when.ignored(lambda conn, type, payload: at_server.add(type))
    pair.client.when.ignored(lambda type, payload: at_client.add(type))
    for sender in (pair.client, pair.conn):
        sender.send("chat", 1)
        sender.send("other", 1)
    assert at_server.wait_for(1) == ["other"]
    assert at_client.wait_for(1) == ["other"]


def test_17_after_off_and_after_once_the_type_is_ignored_again(pair: Pair) -> None:
    heard = Recorder()
    ignored = Recorder()
    pair.server.when.ignored(lambda conn, type, payload: ignored.add((type, payload)))
    handler = pair.server.channel.on("chat", lambda conn, payload: heard.add(payload))
    pair.server.channel.once("one", lambda conn, payload: heard.add(payload))
    pair.client.send("chat", 1)
    pair.client.send("one", 2)
    pair.client.send("one", 3)
    assert ignored.wait_for(1) == [("one", 3)]
    assert heard.items == [1, 2]
    pair.server.channel.off("chat", handler)
    pair.client.send("chat", 4)
    assert ignored.wait_for(2) == [("one", 3), ("chat", 4)]
    assert heard.items == [1, 2]


def test_17_a_call_to_an_unknown_procedure_is_not_an_ignored_message(pair: Pair) -> None:
    ignored = Recorder()
    pair.server.when.ignored(lambda conn, type, payload: ignored.add(type))
    pair.server.channel.on("nope", Recorder())
    with pytest.raises(WseError) as caught:
        pair.client.call("nope")
    assert caught.value.code == WSE_ERROR.RP_NOT_REGISTERED
    pair.client.send("end")
    assert ignored.wait_for(1) == ["end"]


def test_17_a_message_with_the_name_of_a_procedure_does_not_run_it(pair: Pair) -> None:
    ran = Recorder()
    ignored = Recorder()
    pair.server.register("add", ran)
    pair.server.when.ignored(lambda conn, type, payload: ignored.add(type))
    pair.client.send("add", 1)
    assert ignored.wait_for(1) == ["add"]
    assert ran.items == []


# 18


class Overlap:
    """A handler that notes how many runs of it went on at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self.most = 0
        self.order = Recorder()

    def __call__(self, *args: Any) -> None:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        pause = threading.Event()
        pause.wait(0.001)
        with self._lock:
            self._running -= 1
        self.order.add(args[-1])


def test_18_messages_of_one_connection_are_handled_one_at_a_time_in_order(pair: Pair) -> None:
    at_server = Overlap()
    at_client = Overlap()
    for type in ("a", "b"):
        pair.server.channel.on(type, at_server)
        pair.client.channel.on(type, at_client)
    for number in range(200):
        pair.client.send("ab"[number % 2], number)
        pair.conn.send("ab"[number % 2], number)
    assert at_server.order.wait_for(200) == list(range(200))
    assert at_client.order.wait_for(200) == list(range(200))
    assert at_server.most == 1
    assert at_client.most == 1


def test_18_a_message_waits_for_the_handler_of_the_one_before(pair: Pair) -> None:
    for receiver, sender in ((pair.server, pair.client), (pair.client, pair.conn)):
        heard = Recorder()
        with Gate() as gate:
            receiver.channel.on("slow", gate)
            receiver.channel.on("fast", lambda *args: heard.add(args[-1]))  # noqa: B023
            sender.send("slow")
            sender.send("fast", 1)
            wait_event(gate.entered, "the slow handler")
            assert heard.items == []
        assert heard.wait_for(1) == [1]


def test_18_a_call_starts_after_every_message_that_came_before_it(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    log = Recorder()
    may_end = threading.Semaphore(0)

    def handle(conn: WseConnection, payload: Any) -> None:
        may_end.acquire(timeout=PATIENCE)
        log.add(("message", payload))

    server.channel.on("chat", handle)
    server.register("proc", lambda conn, payload: log.add(("call", payload)))
    raw = make_raw_client(server)
    raw.login("ann")
    for number in range(30):
        raw.send_frame("chat", number)
        raw.send_frame("proc", number, f"S{number}")
        # The server has read the call, and the handler of the message is still at work.
        raw.sync()
        may_end.release()
        assert raw.recv_frame() == [RESPONSE, None, f"S{number}"]
    assert log.items == [item for n in range(30) for item in [("message", n), ("call", n)]]


def test_18_on_the_client_too_a_call_starts_after_every_message_before_it(
    make_raw_server: MakeRawServer, make_client: MakeClient
) -> None:
    may_end = threading.Semaphore(0)
    ended = threading.Event()
    log = Recorder()

    def script(peer: RawPeer) -> None:
        peer.welcome()
        for number in range(30):
            peer.send_frame("chat", number)
            peer.send_frame("proc", number, f"S{number}")
            peer.sync()
            may_end.release()
            assert peer.recv_frame() == [RESPONSE, None, f"S{number}"]
        ended.set()
        peer.recv_close()

    def handle(payload: Any) -> None:
        may_end.acquire(timeout=PATIENCE)
        log.add(("message", payload))

    client = make_client(make_raw_server(script))
    client.channel.on("chat", handle)
    client.register("proc", lambda payload: log.add(("call", payload)))
    client.connect()
    wait_event(ended, "the end of the script")
    assert log.items == [item for n in range(30) for item in [("message", n), ("call", n)]]


def test_18_many_messages_before_a_call_are_all_handled_first(pair: Pair) -> None:
    for receiver, sender in ((pair.server, pair.client), (pair.client, pair.conn)):
        heard = Recorder()
        receiver.channel.on("n", lambda *args, heard=heard: heard.add(args[-1]))
        receiver.register("count", lambda *args, heard=heard: len(heard))
        for number in range(200):
            sender.send("n", number)
        assert sender.call("count") == 200


def test_18_calls_run_at_the_same_time_as_each_other(pair: Pair) -> None:
    for receiver, sender in ((pair.server, pair.client), (pair.client, pair.conn)):
        together = threading.Barrier(8)
        receiver.register("meet", lambda *args, b=together: b.wait(PATIENCE) >= 0)
        futures = [sender.submit("meet") for _ in range(8)]
        assert [future.result(PATIENCE) for future in futures] == 8 * [True]


def test_18_calls_run_at_the_same_time_as_later_messages(pair: Pair) -> None:
    for receiver, sender in ((pair.server, pair.client), (pair.client, pair.conn)):
        released = threading.Event()
        receiver.register("wait", lambda *args, e=released: e.wait(PATIENCE))
        receiver.channel.on("release", lambda *args, e=released: e.set())
        future = sender.submit("wait")
        sender.send("release")
        assert future.result(PATIENCE) is True


def test_18_a_blocked_message_handler_holds_back_later_calls_of_its_connection_only(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    order = Recorder()
    with Gate() as gate:
        server.channel.on("block", gate)
        server.register("note", lambda conn, payload: order.add(conn.cid))
        ann = connect(server, "ann")
        ben = connect(server, "ben")
        ann.send("block")
        wait_event(gate.entered, "the blocked handler")
        future = ann.submit("note")
        ben.call("note")
        assert order.items == ["ben"]
        assert not future.done()
    future.result(PATIENCE)
    assert order.items == ["ben", "ann"]


def test_18_joined_and_connected_have_run_before_the_first_message_is_handled(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    log = Recorder()
    gate = Gate()

    def joined(client: Any, meta: Any) -> None:
        gate()
        log.add("joined")

    server.when.joined(joined)
    server.when.connected(lambda conn: log.add("connected"))
    server.channel.on("chat", lambda conn, payload: log.add(payload))
    with gate:
        raw = make_raw_client(server)
        raw.hi("ann")
        raw.send_frame("chat", "message")
        assert raw.recv_frame()[0] == "~wse:welcome"
        wait_event(gate.entered, "the handler of joined")
        assert log.items == []
    assert log.wait_for(3) == ["joined", "connected", "message"]


def test_18_connected_of_a_second_device_has_run_before_its_first_message(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient
) -> None:
    server = make_server(conn_per_user=2)
    connect(server, "ann")
    wait_until(lambda: list(server.clients) == ["ann"])
    log = Recorder()
    gate = Gate()

    def connected(conn: WseConnection) -> None:
        if conn.meta.get("second"):
            gate()
            log.add("connected")

    server.when.connected(connected)
    server.channel.on("chat", lambda conn, payload: log.add(payload))
    with gate:
        raw = make_raw_client(server)
        raw.hi("ann", {"second": True})
        raw.send_frame("chat", "message")
        assert raw.recv_frame()[0] == "~wse:welcome"
        wait_event(gate.entered, "the handler of connected")
        assert log.items == []
    assert log.wait_for(2) == ["connected", "message"]


def _close_orderly(raw: RawClient, server: WseServer) -> None:
    raw.close(1000, "bye")


def _abort(raw: RawClient, server: WseServer) -> None:
    raw.abort()


def _drop(raw: RawClient, server: WseServer) -> None:
    server.drop_client("ann")


@pytest.mark.parametrize("end", [_close_orderly, _abort, _drop])
def test_18_disconnected_and_left_run_after_the_last_message(
    make_server: MakeServer,
    make_raw_client: MakeRawClient,
    end: Callable[[RawClient, WseServer], None],
) -> None:
    server = make_server()
    log = Recorder()
    gate = Gate()

    def handle(conn: WseConnection, payload: Any) -> None:
        gate()
        log.add(("message", conn.cid, payload))

    server.channel.on("chat", handle)
    server.when.disconnected(lambda conn, code, reason: log.add("disconnected"))
    server.when.left(lambda client, code, reason: log.add("left"))
    with gate:
        raw = make_raw_client(server)
        raw.login("ann")
        raw.send_frame("chat", 1)
        wait_event(gate.entered, "the handler")
        end(raw, server)
        # A close shows at once, also while a handler of that connection is still at work.
        wait_until(lambda: not server.clients, lambda: server.clients)
        assert log.items == []
    assert log.wait_for(3) == [("message", "ann", 1), "disconnected", "left"]


def _has(item: Any, items: list[Any]) -> bool:
    return item in items


def test_18_messages_read_before_the_close_are_handled_before_disconnected(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    log = Recorder()
    server.channel.on("n", lambda conn, payload: log.add((conn.cid, payload)))
    server.when.disconnected(lambda conn, code, reason: log.add((conn.cid, "disconnected")))
    for cid in ("ann", "ben", "cleo", "dan", "eve"):
        raw = make_raw_client(server)
        raw.login(cid)
        for number in range(50):
            raw.send_frame("n", number)
        raw.close(1000, "bye")
        items = log.wait_until(partial(_has, (cid, "disconnected")))
        mine = [what for who, what in items if who == cid]
        assert mine == [*range(50), "disconnected"]


def test_18_clients_shows_a_drop_at_once(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(conn_per_user=2)
    conns = Recorder()
    server.when.connected(conns)
    connect(server, "ann")
    connect(server, "ann")
    first, second = conns.wait_for(2)
    identity = server.clients["ann"]
    first.drop()
    assert dict(identity.conns) == {second.conn_id: second}
    assert first.state == "closed"
    second.drop()
    assert dict(server.clients) == {}
    assert dict(identity.conns) == {}


# 19


def test_19_a_message_handler_may_send_and_call_on_both_ends(pair: Pair) -> None:
    done = Recorder()
    pair.server.register("double", lambda conn, payload: payload * 2)
    pair.client.register("double", lambda payload: payload * 2)

    def at_server(conn: WseConnection, payload: int) -> None:
        conn.send("answer", conn.call("double", payload))
        pair.server.broadcast("answer", pair.server.clients["ann"].conns[conn.conn_id].cid)

    def at_client(payload: Any) -> None:
        done.add((payload, pair.client.call("double", 4)))
        pair.client.send("thanks")

    thanked = Recorder()
    pair.server.channel.on("chat", at_server)
    pair.server.channel.on("thanks", thanked)
    pair.client.channel.on("answer", at_client)
    pair.client.send("chat", 3)
    assert done.wait_for(2) == [(6, 8), ("ann", 8)]
    thanked.wait_for(2)


@pytest.mark.parametrize("deep", [20, 21])
def test_19_calls_ten_deep_in_both_directions(pair: Pair, deep: int) -> None:
    def ping(conn: WseConnection, depth: int) -> list[str]:
        return ["ping"] + (conn.call("pong", depth - 1) if depth > 1 else [])

    def pong(depth: int) -> list[str]:
        return ["pong"] + (pair.client.call("ping", depth - 1) if depth > 1 else [])

    pair.server.register("ping", ping)
    pair.client.register("pong", pong)
    both = (["ping", "pong"] * deep)[:deep]
    assert pair.client.call("ping", deep) == both
    assert pair.conn.call("pong", deep) == (["pong", "ping"] * deep)[:deep]


def test_19_calls_ten_deep_started_from_both_ends_at_once(pair: Pair) -> None:
    def ping(conn: WseConnection, depth: int) -> int:
        return depth and 1 + conn.call("pong", depth - 1)

    def pong(depth: int) -> int:
        return depth and 1 + pair.client.call("ping", depth - 1)

    pair.server.register("ping", ping)
    pair.client.register("pong", pong)
    futures = [pair.client.submit("ping", 20), pair.conn.submit("pong", 20)]
    assert [future.result(PATIENCE) for future in futures] == [20, 20]


@pytest.mark.parametrize("start", ["server", "client", "both", "connected"])
def test_19_handlers_of_messages_and_signals_call_ten_deep_too(
    make_server: MakeServer, make_client: MakeClient, start: str
) -> None:
    """The inner calls come back to a connection whose handler waits for the outer one."""
    server = make_server()
    client = make_client(server)
    results = Recorder()

    def ping(conn: WseConnection, depth: int) -> int:
        return depth and 1 + conn.call("pong", depth - 1)

    def pong(depth: int) -> int:
        return depth and 1 + client.call("ping", depth - 1)

    server.register("ping", ping)
    client.register("pong", pong)
    server.channel.on("go", lambda conn, n: results.add(("server", conn.call("pong", n))))
    client.channel.on("go", lambda n: results.add(("client", client.call("ping", n))))
    if start == "connected":
        server.when.connected(lambda conn: results.add(("connected", conn.call("pong", 20))))
    client.connect("ann")
    if start in ("server", "both"):
        client.send("go", 20)
    if start in ("client", "both"):
        server.send("ann", "go", 20)
    names = ["client", "server"] if start == "both" else [start]
    assert sorted(results.wait_for(len(names))) == [(name, 20) for name in names]


def test_19_several_clients_call_ten_deep_at_once(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()

    def ping(conn: WseConnection, depth: int) -> int:
        return depth and 1 + conn.call("pong", depth - 1)

    server.register("ping", ping)
    clients = [connect(server, f"user-{number}") for number in range(4)]
    for client in clients:
        client.register(
            "pong",
            lambda depth, client=client: depth and 1 + client.call("ping", depth - 1),
        )
    futures = [client.submit("ping", 20) for client in clients]
    assert [future.result(PATIENCE) for future in futures] == 4 * [20]


def test_19_messages_sent_ten_deep_in_both_directions(pair: Pair) -> None:
    log = Recorder()

    def at_server(conn: WseConnection, depth: int) -> None:
        log.add(depth)
        if depth:
            conn.send("down", depth - 1)

    def at_client(depth: int) -> None:
        log.add(depth)
        if depth:
            pair.client.send("down", depth - 1)

    pair.server.channel.on("down", at_server)
    pair.client.channel.on("down", at_client)
    pair.client.send("down", 20)
    assert log.wait_for(21) == list(range(20, -1, -1))


def test_19_a_handler_may_drop_its_own_connection(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    log = Recorder()

    def handle(conn: WseConnection, payload: Any) -> None:
        conn.drop("from the handler")
        log.add(("after", conn.state))

    server.channel.on("drop me", handle)
    server.when.disconnected(lambda conn, code, reason: log.add((code, reason)))
    client = connect(server, "ann")
    client.send("drop me")
    assert log.wait_for(2) == [("after", "closed"), (1000, "from the handler")]
    assert client.wait(PATIENCE)


def test_19_a_procedure_may_drop_its_own_user(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    server.register("drop me", lambda conn, payload: server.drop_client(conn.cid, "you asked"))
    client = connect(server, "ann")
    with pytest.raises(WseError) as caught:
        client.call("drop me")
    assert caught.value.code == WSE_ERROR.RP_DISCONNECT
    assert caught.value.details["disconnected"] == [1000, "you asked"]


def test_19_a_handler_may_drop_another_user(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    server.register("kick", lambda conn, cid: server.drop_client(cid, f"kicked by {conn.cid}"))
    ann = connect(server, "ann")
    ben = connect(server, "ben")
    closed = Recorder()
    ben.when.closed(closed)
    assert ann.call("kick", "ben") is None
    assert closed.wait_for(1) == [(1000, "kicked by ann")]
    assert list(server.clients) == ["ann"]


@pytest.mark.parametrize("signal", ["joined", "connected"])
def test_19_the_handlers_of_joined_and_connected_may_send_call_and_drop(
    make_server: MakeServer, make_client: MakeClient, signal: str
) -> None:
    server = make_server()
    results = Recorder()

    def greet(conn: WseConnection) -> None:
        conn.send("hello", 1)
        results.add(conn.call("name"))
        conn.drop("that was all")

    if signal == "joined":
        server.when.joined(lambda client, meta: greet(next(iter(client.conns.values()))))
    else:
        server.when.connected(greet)
    client = make_client(server)
    heard = Recorder()
    closed = Recorder()
    client.when.closed(closed)
    client.register("name", lambda payload: "my name")
    client.channel.on("hello", heard)
    client.connect("ann")
    assert results.wait_for(1) == ["my name"]
    assert heard.wait_for(1) == [1]
    assert closed.wait_for(1) == [(1000, "that was all")]


def test_19_the_handlers_of_disconnected_and_left_may_send_and_call_others(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    results = Recorder()
    server.when.disconnected(lambda conn, code, reason: server.broadcast("gone", conn.cid))

    def left(client: Any, code: int, reason: str) -> None:
        for identity in server.clients.values():
            for conn in identity.conns.values():
                results.add(conn.call("name"))

    server.when.left(left)
    ben = connect(server, "ben")
    heard = Recorder()
    ben.channel.on("gone", heard)
    ben.register("name", lambda payload: "ben")
    connect(server, "ann").disconnect()
    assert heard.wait_for(1) == ["ann"]
    assert results.wait_for(1) == ["ben"]


def test_19_using_a_closed_connection_in_a_handler_raises_and_blocks_nobody(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    errors = Recorder()

    def disconnected(conn: WseConnection, code: int, reason: str) -> None:
        for use in (conn.send, conn.call):
            try:
                use("anything")
            except WseError as error:
                errors.add((error.code, isinstance(error, ConnectionError)))

    server.when.disconnected(disconnected)
    connect(server, "ann").disconnect()
    assert errors.wait_for(2) == 2 * [(WSE_ERROR.CONNECTION_NOT_READY, True)]


@pytest.mark.parametrize("place", ["channel", "procedure", "ready", "closed", "updated", "error"])
def test_19_a_handler_of_the_client_may_disconnect(
    make_server: MakeServer, make_client: MakeClient, place: str
) -> None:
    server = make_server()
    left = Recorder()
    conns = Recorder()
    server.when.left(left)
    server.when.connected(conns)
    client = make_client(server)
    returned = threading.Event()

    def disconnect(*_: Any) -> None:
        client.disconnect("from a handler")
        returned.set()

    def fail(*_: Any) -> None:
        raise RuntimeError("for the error signal")

    if place == "channel":
        client.channel.on("go", disconnect)
    elif place == "procedure":
        client.register("go", disconnect)
    elif place == "updated":
        client.when.updated(lambda status: disconnect() if status == WSE_STATUS.READY else None)
    elif place == "error":
        client.channel.on("go", fail)
        client.when.error(disconnect)
    else:
        getattr(client.when, place)(disconnect)
    client.connect("ann")
    if place in ("channel", "error"):
        conns.wait_for(1)[0].send("go")
    elif place == "procedure":
        with pytest.raises(WseError) as caught:
            conns.wait_for(1)[0].call("go")
        assert caught.value.code == WSE_ERROR.RP_DISCONNECT
    elif place == "closed":
        conns.wait_for(1)[0].drop()
    wait_event(returned, "disconnect() in the handler")
    assert client.wait(PATIENCE)
    assert client.status == WSE_STATUS.OFFLINE
    ((_, code, _),) = left.wait_for(1)
    assert code == 1000


def test_19_a_handler_may_register_and_unregister(pair: Pair) -> None:
    def on_server(conn: WseConnection, name: str) -> None:
        pair.server.register(name, lambda conn, payload: f"{name} of the server")
        pair.server.unregister("make")

    def on_client(name: str) -> None:
        pair.client.register(name, lambda payload: f"{name} of the client")
        pair.client.unregister("make")

    pair.server.register("make", on_server)
    pair.client.register("make", on_client)
    for caller in (pair.client, pair.conn):
        caller.call("make", "new")
        with pytest.raises(WseError) as caught:
            caller.call("make", "again")
        assert caught.value.code == WSE_ERROR.RP_NOT_REGISTERED
    assert pair.client.call("new") == "new of the server"
    assert pair.conn.call("new") == "new of the client"


def test_19_a_handler_may_add_and_remove_handlers(pair: Pair) -> None:
    log = Recorder()

    def first(conn: WseConnection, payload: Any) -> None:
        log.add(("first", payload))
        pair.server.channel.off("chat", first)
        pair.server.channel.on("chat", second)

    def second(conn: WseConnection, payload: Any) -> None:
        log.add(("second", payload))

    pair.server.channel.on("chat", first)
    for number in (1, 2, 3):
        pair.client.send("chat", number)
    items = log.wait_until(lambda items: ("second", 3) in items)
    assert [item for item in items if item != ("second", 1)] == [
        ("first", 1),
        ("second", 2),
        ("second", 3),
    ]


def test_19_identify_may_use_the_server(make_server: MakeServer, connect: Connect) -> None:
    seen = Recorder()

    def identify(auth: Any) -> None:
        server.broadcast("knock", auth.identity)
        seen.add(sorted(server.clients))
        if auth.identity == "ben":
            server.drop_client("ann", "ben comes")
        auth.accept(auth.identity)

    server = make_server(identify)
    ann = connect(server, "ann")
    heard = Recorder()
    ann.channel.on("knock", heard)
    connect(server, "ben")
    assert heard.wait_for(1) == ["ben"]
    assert ann.wait(PATIENCE)
    assert seen.items == [[], ["ann"]]
    assert list(server.clients) == ["ben"]


def test_19_the_server_may_be_closed_by_a_handler(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    returned = threading.Event()

    def handle(conn: WseConnection, payload: Any) -> None:
        server.close()
        returned.set()

    server.channel.on("close", handle)
    client = connect(server, "ann")
    closed = Recorder()
    client.when.closed(closed)
    client.send("close")
    wait_event(returned, "close() in a handler")
    assert closed.wait_for(1) == [(1012, "wse.by-server")]
    assert dict(server.clients) == {}


# 20


def fail(*_: Any) -> None:
    raise ValueError("the handler is broken")


def logged_traceback(caplog: pytest.LogCaptureFixture, logger: str) -> bool:
    """Whether that logger has a record with the traceback of `fail`."""
    return any(
        record.name == logger
        and record.levelno >= logging.ERROR
        and record.exc_info is not None
        and str(record.exc_info[1]) == "the handler is broken"
        and record.exc_info[2] is not None
        for record in list(caplog.records)
    )


def test_20_a_raising_handler_is_logged_and_reported_and_the_rest_goes_on_at_the_server(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Recorder()
    errors = Recorder()
    pair.server.when.error(errors)
    pair.server.channel.on("chat", fail)
    pair.server.channel.on("chat", lambda conn, payload: heard.add(payload))
    pair.server.register("ping", lambda conn, payload: payload)
    pair.client.send("chat", 1)
    pair.client.send("chat", 2)
    assert heard.wait_for(2) == [1, 2]
    for error, conn in errors.wait_for(2):
        assert isinstance(error, ValueError)
        assert str(error) == "the handler is broken"
        assert error.__traceback__ is not None
        assert conn is pair.conn
    assert pair.client.call("ping", 1) == 1
    assert pair.client.status == WSE_STATUS.READY
    wait_until(lambda: logged_traceback(caplog, "wse_sync.server"), lambda: caplog.text)


def test_20_a_raising_handler_is_logged_and_reported_and_the_rest_goes_on_at_the_client(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Recorder()
    errors = Recorder()
    pair.client.when.error(errors)
    pair.client.channel.on("chat", fail)
    pair.client.channel.on("chat", heard)
    pair.client.register("ping", lambda payload: payload)
    pair.conn.send("chat", 1)
    pair.conn.send("chat", 2)
    assert heard.wait_for(2) == [1, 2]
    for error in errors.wait_for(2):
        assert isinstance(error, ValueError)
        assert error.__traceback__ is not None
    assert pair.conn.call("ping", 1) == 1
    wait_until(lambda: logged_traceback(caplog, "wse_sync.client"), lambda: caplog.text)


@pytest.mark.parametrize("signal", ["joined", "connected", "disconnected", "left", "ignored"])
def test_20_a_raising_signal_handler_of_the_server_stops_nothing(
    make_server: MakeServer, connect: Connect, caplog: pytest.LogCaptureFixture, signal: str
) -> None:
    server = make_server()
    errors = Recorder()
    others = Recorder()
    server.register("ping", lambda conn, payload: payload)
    server.when.error(lambda error, conn: errors.add(error))
    getattr(server.when, signal)(fail)
    getattr(server.when, signal)(lambda *_: others.add(signal))
    client = connect(server, "ann")
    client.send("nobody listens")
    assert client.call("ping", 1) == 1
    client.disconnect()
    assert others.wait_for(1) == [signal]
    assert isinstance(errors.wait_for(1)[0], ValueError)
    wait_until(lambda: logged_traceback(caplog, "wse_sync.server"), lambda: caplog.text)
    assert connect(server, "ben").call("ping", 2) == 2


@pytest.mark.parametrize("signal", ["connected", "ready", "closed", "updated", "ignored"])
def test_20_a_raising_signal_handler_of_the_client_stops_nothing(
    make_server: MakeServer,
    make_client: MakeClient,
    caplog: pytest.LogCaptureFixture,
    signal: str,
) -> None:
    server = make_server()
    server.register("ping", lambda conn, payload: payload)
    client = make_client(server)
    errors = Recorder()
    others = Recorder()
    client.when.error(errors)
    getattr(client.when, signal)(fail)
    getattr(client.when, signal)(lambda *_: others.add(signal))
    client.connect("ann")
    server.send("ann", "nobody listens")
    assert client.call("ping", 1) == 1
    if signal == "closed":
        client.disconnect()
    others.wait_for(1)
    assert isinstance(errors.wait_for(1)[0], ValueError)
    wait_until(lambda: logged_traceback(caplog, "wse_sync.client"), lambda: caplog.text)
    client.disconnect()
    assert client.status == WSE_STATUS.OFFLINE


def test_20_a_raising_error_handler_is_logged_and_stops_nothing(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    others = Recorder()
    pair.server.when.error(fail)
    pair.server.when.error(lambda error, conn: others.add(type(error)))
    pair.server.channel.on("chat", lambda conn, payload: 1 // 0)
    pair.server.register("ping", lambda conn, payload: payload)
    pair.client.send("chat")
    assert others.wait_for(1)[0] is ZeroDivisionError
    wait_until(lambda: logged_traceback(caplog, "wse_sync.server"), lambda: caplog.text)
    assert pair.client.call("ping", 1) == 1
    # It is not reported to itself, over and over.
    assert len(others) <= 2


def test_20_a_raising_procedure_ends_only_its_call(pair: Pair) -> None:
    pair.server.register("fail", fail)
    pair.server.register("ping", lambda conn, payload: payload)
    for number in range(3):
        with pytest.raises(WseError):
            pair.client.call("fail")
        assert pair.client.call("ping", number) == number


def test_20_a_handler_that_cannot_be_called_this_way_is_reported_too(pair: Pair) -> None:
    errors = Recorder()
    pair.server.when.error(lambda error, conn: errors.add(type(error)))
    pair.server.channel.on("chat", lambda: None)
    pair.client.send("chat")
    assert errors.wait_for(1) == [TypeError]


# 21


def test_21_a_blocked_handler_delays_no_other_connection(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=2)
    server.register("ping", lambda conn, payload: payload)
    heard = Recorder()
    server.channel.on("chat", lambda conn, payload: heard.add(payload))
    with Gate() as gate:
        server.channel.on("block", gate)
        server.register("block", gate)
        blocked = connect(server, "ann")
        blocked.send("block")
        wait_event(gate.entered, "the blocked handler")
        other_device = connect(server, "ann")
        ben = connect(server, "ben")
        news = Recorder()
        for client in (other_device, ben):
            client.channel.on("news", news)
            assert client.call("ping", 1) == 1
            client.send("chat", 2)
        assert heard.wait_for(2) == [2, 2]
        assert server.broadcast("news", 3) == 3
        assert news.wait_for(2) == [3, 3]
        blocked.submit("block").cancel()
        ben.disconnect()
        wait_until(lambda: list(server.clients) == ["ann"])


def test_21_many_blocked_message_handlers_delay_no_other_connection(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient
) -> None:
    server = make_server(max_workers=2)
    server.register("ping", lambda conn, payload: payload)
    heard = Recorder()
    entered = Recorder()
    opened = threading.Event()

    def block(conn: WseConnection, payload: Any) -> None:
        entered.add(conn.cid)
        opened.wait(PATIENCE)

    server.channel.on("block", block)
    server.channel.on("chat", lambda conn, payload: heard.add(payload))
    try:
        for number in range(8):
            raw = make_raw_client(server)
            raw.login(f"blocked-{number}")
            raw.send_frame("block")
        entered.wait_for(8)
        client = connect(server, "ann")
        assert client.call("ping", 1) == 1
        client.send("chat", 2)
        assert heard.wait_for(1) == [2]
    finally:
        opened.set()


@pytest.mark.parametrize("signal", ["joined", "connected", "disconnected", "left"])
def test_21_a_blocked_signal_handler_delays_no_other_connection(
    make_server: MakeServer, connect: Connect, signal: str
) -> None:
    server = make_server()
    server.register("ping", lambda conn, payload: payload)
    gate = Gate()

    def block_ann(subject: Any, *_: Any) -> None:
        if subject.cid == "ann":
            gate()

    getattr(server.when, signal)(block_ann)
    with gate:
        ann = connect(server, "ann")
        if signal in ("disconnected", "left"):
            ann.disconnect()
        wait_event(gate.entered, f"the handler of {signal}")
        ben = connect(server, "ben")
        assert ben.call("ping", 1) == 1
        ben.disconnect()
        wait_until(lambda: "ben" not in server.clients)


def test_21_a_blocked_identify_delays_no_other_connection(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient
) -> None:
    gate = Gate()

    def identify(auth: Any) -> None:
        if auth.identity == "slow":
            gate()
        auth.accept(auth.identity)

    server = make_server(identify)
    server.register("ping", lambda conn, payload: payload)
    with gate:
        raw = make_raw_client(server)
        raw.hi("slow")
        wait_event(gate.entered, "identify")
        assert connect(server, "ann").call("ping", 1) == 1


def test_21_many_blocked_identifies_delay_no_other_connection(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient
) -> None:
    entered = Recorder()
    opened = threading.Event()

    def identify(auth: Any) -> None:
        if auth.identity == "slow":
            entered.add(1)
            opened.wait(PATIENCE)
        auth.accept(auth.identity)

    server = make_server(identify, max_workers=2)
    server.register("ping", lambda conn, payload: payload)
    try:
        for _ in range(8):
            make_raw_client(server).hi("slow")
        entered.wait_for(2)
        assert connect(server, "ann").call("ping", 1) == 1
    finally:
        opened.set()


def test_21_a_blocked_handler_of_the_client_delays_neither_its_answers_nor_other_clients(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    server.register("ping", lambda conn, payload: payload)
    with Gate() as gate:
        ann = connect(server, "ann")
        ben = connect(server, "ben")
        ann.channel.on("block", gate)
        server.send("ann", "block")
        wait_event(gate.entered, "the blocked handler")
        assert ann.call("ping", 1) == 1
        assert ben.call("ping", 2) == 2
