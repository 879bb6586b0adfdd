"""Promises 11 to 15: users, their devices, and who is reached by what."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from tests.conftest import Connect, MakeClient, MakeRawClient, MakeServer
from tests.support import QUICK, Recorder, Thread, accept_all, wait_until
from wse_sync import (
    WSE_ERROR,
    WSE_REASON,
    WSE_STATUS,
    AuthRequest,
    JsonProtocol,
    WseError,
    WseServer,
)


def note_lives(server: WseServer) -> Recorder:
    """Record joined, connected, disconnected and left of a server, in order."""
    lives = Recorder()
    server.when.joined(lambda client, meta: lives.add(("joined", client.cid, meta)))
    server.when.connected(lambda conn: lives.add(("connected", conn.conn_id)))
    server.when.disconnected(
        lambda conn, code, reason: lives.add(("disconnected", conn.conn_id, code, reason))
    )
    server.when.left(lambda client, code, reason: lives.add(("left", client.cid, code, reason)))
    return lives


def named(lives: Recorder, name: str) -> list[Any]:
    return [item for item in lives.items if item[0] == name]


def has(name: str, count: int = 1) -> Any:
    """A predicate for a Recorder of lives: at least `count` of that name."""
    return lambda items: len([item for item in items if item[0] == name]) >= count


# 11


@pytest.mark.parametrize("reconnect", [False, True])
def test_11_one_connection_a_user_by_default_the_newer_stays(
    make_server: MakeServer, connect: Connect, reconnect: bool
) -> None:
    server = make_server()
    server.register("who", lambda conn, payload: conn.conn_id)
    assert server.conn_per_user == 1
    older = connect(server, "ann", reconnect=reconnect, backoff=QUICK)
    closed = Recorder()
    statuses = Recorder()
    older.when.closed(closed)
    older.when.updated(statuses)
    newer = connect(server, "ann")
    newer_closed = Recorder()
    newer.when.closed(newer_closed)
    assert closed.wait_for(1) == [(1000, WSE_REASON.CLIENTS_CONCURRENCY)]
    assert older.wait(10)
    assert older.status == WSE_STATUS.OFFLINE
    assert WSE_STATUS.RE_CONNECTING not in statuses.items
    assert list(server.clients["ann"].conns) == [newer.call("who")]
    assert newer.status == WSE_STATUS.READY
    assert newer_closed.items == []
    assert closed.items == [(1000, "wse.clients-concurrency")]


def test_11_other_users_are_not_affected(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    server.register("who", lambda conn, payload: conn.cid)
    ben = connect(server, "ben")
    older = connect(server, "ann")
    connect(server, "ann")
    assert older.wait(10)
    assert ben.call("who") == "ben"
    assert sorted(server.clients) == ["ann", "ben"]


def test_11_the_user_neither_leaves_nor_joins_again(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    lives = note_lives(server)
    connect(server, "ann")
    identity = server.clients["ann"]
    (first,) = identity.conns
    connect(server, "ann")
    lives.wait_until(has("disconnected"))
    assert len(named(lives, "joined")) == 1
    assert named(lives, "left") == []
    assert server.clients["ann"] is identity
    assert named(lives, "disconnected") == [
        ("disconnected", first, 1000, "wse.clients-concurrency")
    ]


# 12


def test_12_the_device_past_the_limit_pushes_out_the_oldest(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=3)
    server.register("who", lambda conn, payload: conn.conn_id)
    devices = [connect(server, "ann") for _ in range(3)]
    ids = [device.call("who") for device in devices]
    assert len(set(ids)) == 3
    assert list(server.clients["ann"].conns) == ids
    closed = [Recorder() for _ in range(5)]
    for device, recorder in zip(devices, closed):
        device.when.closed(recorder)
    fourth = connect(server, "ann")
    assert closed[0].wait_for(1) == [(1000, "wse.clients-concurrency")]
    assert list(server.clients["ann"].conns) == [*ids[1:], fourth.call("who")]
    fifth = connect(server, "ann")
    assert closed[1].wait_for(1) == [(1000, "wse.clients-concurrency")]
    assert closed[2].items == []
    assert devices[2].call("who") == ids[2]
    assert list(server.clients["ann"].conns) == [ids[2], fourth.call("who"), fifth.call("who")]


def test_12_a_device_that_left_makes_room(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(conn_per_user=2)
    server.register("who", lambda conn, payload: conn.conn_id)
    lives = note_lives(server)
    first = connect(server, "ann")
    second = connect(server, "ann")
    second.disconnect()
    lives.wait_until(has("disconnected"))
    third = connect(server, "ann")
    assert list(server.clients["ann"].conns) == [first.call("who"), third.call("who")]
    assert len(named(lives, "disconnected")) == 1


def test_12_devices_that_failed_to_authenticate_do_not_count(
    make_server: MakeServer,
    make_client: MakeClient,
    connect: Connect,
    make_raw_client: MakeRawClient,
) -> None:
    def identify(auth: AuthRequest) -> None:
        if auth.meta.get("password") == "right":
            accept_all(auth)
        else:
            auth.refuse()

    server = make_server(identify, conn_per_user=2)
    server.register("who", lambda conn, payload: conn.conn_id)
    lives = note_lives(server)
    devices = [connect(server, "ann", {"password": "right"}) for _ in range(2)]
    for _ in range(4):
        with pytest.raises(WseError) as caught:
            make_client(server).connect("ann", {"password": "wrong"})
        assert caught.value.code == WSE_ERROR.NOT_AUTHORIZED
    undecided = make_raw_client(server)
    ids = [device.call("who") for device in devices]
    assert list(server.clients["ann"].conns) == ids
    assert len(named(lives, "connected")) == 2
    assert named(lives, "disconnected") == []
    undecided.close()


def test_12_the_limit_holds_when_many_devices_come_at_once(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(conn_per_user=3)
    lives = note_lives(server)
    clients = [make_client(server) for _ in range(12)]
    start = threading.Barrier(len(clients))

    def arrive(number: int) -> None:
        start.wait(10)
        clients[number].connect("ann", {"number": number})

    for thread in [Thread(partial(arrive, number)) for number in range(len(clients))]:
        thread.result()
    lives.wait_until(has("disconnected", 9))
    lives.wait_until(has("connected", 12))
    assert len(server.clients["ann"].conns) == 3
    assert len(named(lives, "joined")) == 1
    wait_until(
        lambda: sum(client.status == WSE_STATUS.READY for client in clients) == 3,
        lambda: [client.status for client in clients],
    )
    assert named(lives, "left") == []


# 13


def test_13_joined_once_connected_for_each_disconnected_for_each_left_once(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=3)
    server.register("who", lambda conn, payload: conn.conn_id)
    lives = note_lives(server)
    devices = []
    for number in range(3):
        devices.append(connect(server, "ann", {"device": number}))
        lives.wait_until(has("connected", number + 1))  # of different connections, in no order
    ids = [device.call("who") for device in devices]
    assert named(lives, "joined") == [("joined", "ann", {"device": 0})]
    assert named(lives, "connected") == [("connected", conn_id) for conn_id in ids]
    devices[1].disconnect("one")
    lives.wait_until(has("disconnected", 1))
    devices[0].disconnect("two")
    lives.wait_until(has("disconnected", 2))
    assert named(lives, "left") == []
    assert list(server.clients) == ["ann"]
    devices[2].disconnect("three")
    lives.wait_until(has("left"))
    assert named(lives, "disconnected") == [
        ("disconnected", ids[1], 1000, "one"),
        ("disconnected", ids[0], 1000, "two"),
        ("disconnected", ids[2], 1000, "three"),
    ]
    assert named(lives, "left") == [("left", "ann", 1000, "three")]
    assert dict(server.clients) == {}
    # In the order in which wire.md tells it.
    names = [item[0] for item in lives.items]
    assert names[:2] == ["joined", "connected"]
    assert names[-2:] == ["disconnected", "left"]


def test_13_a_user_that_comes_back_joins_again(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    lives = note_lives(server)
    for number in range(3):
        client = connect(server, "ann", {"visit": number})
        lives.wait_until(has("connected", number + 1))
        client.disconnect()
        lives.wait_until(has("left", number + 1))
    assert [item[2] for item in named(lives, "joined")] == [
        {"visit": 0},
        {"visit": 1},
        {"visit": 2},
    ]
    assert [item[0] for item in lives.items] == 3 * [
        "joined",
        "connected",
        "disconnected",
        "left",
    ]


def test_13_a_connection_cut_without_a_close_frame_is_1006(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    lives = note_lives(server)
    raw = make_raw_client(server)
    raw.login("ann")
    lives.wait_until(has("connected"))
    raw.abort()
    lives.wait_until(has("left"))
    ((_, _, code, reason),) = named(lives, "disconnected")
    assert (code, reason) == (1006, "")
    assert named(lives, "left") == [("left", "ann", 1006, "")]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, "bye"), (1001, "page closed"), (4000, "jump"), (4999, "é☃"), (1000, "")],
)
def test_13_left_tells_the_code_and_reason_of_the_close_frame(
    make_server: MakeServer, make_raw_client: MakeRawClient, code: int, reason: str
) -> None:
    server = make_server()
    lives = note_lives(server)
    raw = make_raw_client(server)
    raw.login("ann")
    raw.close(code, reason)
    lives.wait_until(has("left"))
    ((_, _, *disconnected),) = named(lives, "disconnected")
    assert disconnected == [code, reason]
    assert named(lives, "left") == [("left", "ann", code, reason)]


def test_13_a_drop_tells_its_own_code_and_reason(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    lives = note_lives(server)
    client = connect(server, "ann")
    closed = Recorder()
    client.when.closed(closed)
    lives.wait_until(has("connected"))
    server.clients["ann"].drop("enough")
    lives.wait_until(has("left"))
    assert closed.wait_for(1) == [(1000, "enough")]
    assert named(lives, "left") == [("left", "ann", 1000, "enough")]


def test_13_users_that_come_and_go_at_once_are_all_accounted_for(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(conn_per_user=2)
    lives = note_lives(server)

    def visit(number: int) -> None:
        for _ in range(5):
            client = make_client(server)
            client.connect(f"user-{number % 4}")
            client.disconnect()

    for thread in [Thread(partial(visit, number)) for number in range(8)]:
        thread.result()
    lives.wait_until(has("disconnected", 40))
    lives.wait_until(
        lambda items: (
            len([i for i in items if i[0] == "joined"]) == len([i for i in items if i[0] == "left"])
        )
    )
    connected = [item[1] for item in named(lives, "connected")]
    disconnected = [item[1] for item in named(lives, "disconnected")]
    assert len(connected) == 40
    assert sorted(connected) == sorted(disconnected)
    assert len(set(connected)) == 40
    assert dict(server.clients) == {}


# 14


def test_14_drop_client_fires_left_once(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(conn_per_user=3)
    lives = note_lives(server)
    devices = [connect(server, "ann", reconnect=True, backoff=QUICK) for _ in range(3)]
    closed = Recorder()
    for device in devices:
        device.when.closed(closed)
    lives.wait_until(has("connected", 3))
    server.drop_client("ann", "go away")
    assert dict(server.clients) == {}
    assert closed.wait_for(3) == 3 * [(1000, "go away")]
    for device in devices:
        assert device.wait(10)
        assert device.status == WSE_STATUS.OFFLINE
    lives.wait_until(has("left"))
    lives.wait_until(has("disconnected", 3))  # each in the lane of its own connection
    assert [item[2:] for item in named(lives, "disconnected")] == 3 * [(1000, "go away")]
    server.close()
    assert named(lives, "left") == [("left", "ann", 1000, "go away")]


def test_14_drop_client_has_an_empty_reason_by_default(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    client = connect(server, "ann")
    closed = Recorder()
    client.when.closed(closed)
    server.drop_client("ann")
    assert closed.wait_for(1) == [(1000, WSE_REASON.NO_REASON)]


def test_14_an_unknown_cid_is_no_error(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    lives = note_lives(server)
    client = connect(server, "ann")
    server.register("ping", lambda conn, payload: payload)
    server.drop_client("nobody")
    server.drop_client("nobody", "reason")
    assert client.call("ping", 1) == 1
    assert named(lives, "left") == []


def test_14_dropping_twice_is_no_error_and_left_fires_once(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    lives = note_lives(server)
    client = connect(server, "ann")
    identity = server.clients["ann"]
    server.drop_client("ann", "first")
    server.drop_client("ann", "second")
    identity.drop("third")
    assert client.wait(10)
    server.close()
    assert named(lives, "left") == [("left", "ann", 1000, "first")]


def test_14_a_dropped_user_may_come_back(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    server.register("ping", lambda conn, payload: payload)
    connect(server, "ann")
    server.drop_client("ann")
    again = connect(server, "ann")
    assert again.call("ping", 1) == 1
    assert list(server.clients) == ["ann"]


# 15


class CountingProtocol(JsonProtocol):
    """Counts how often each type was packed."""

    def __init__(self) -> None:
        super().__init__()
        self.packed = Recorder()

    def pack(self, type: Any, payload: Any = None, stamp: Any = None) -> str:
        self.packed.add(type)
        return super().pack(type, payload, stamp)


def test_15_send_reaches_each_device_of_the_user_once(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=3)
    heard = [Recorder() for _ in range(4)]
    clients = [connect(server, "ann") for _ in range(3)]
    clients.append(connect(server, "ben"))
    for client, recorder in zip(clients, heard):
        client.channel.on("news", recorder)
        client.channel.on("end", recorder)
    assert server.send("ann", "news", {"n": 1}) == 3
    assert server.broadcast("end", "end") == 4
    for recorder in heard[:3]:
        assert recorder.wait_for(2) == [{"n": 1}, "end"]
    assert heard[3].wait_for(1) == ["end"]


def test_15_identity_send_reaches_each_device_of_the_user_once(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=2)
    heard = Recorder()
    for _ in range(2):
        connect(server, "ann").channel.on("news", heard)
    assert server.clients["ann"].send("news", 1) == 2
    assert heard.wait_for(2) == [1, 1]


def test_15_an_unknown_cid_reaches_nobody(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    connect(server, "ann")
    assert server.send("nobody", "news", 1) == 0


def test_15_conn_send_reaches_one_device(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(conn_per_user=2)
    heard = [Recorder(), Recorder()]
    for recorder in heard:
        client = connect(server, "ann")
        client.channel.on("news", recorder)
        client.channel.on("end", recorder)
    first, second = server.clients["ann"].conns.values()
    first.send("news", "for the first")
    second.send("news", "for the second")
    server.broadcast("end", "end")
    assert heard[0].wait_for(2) == ["for the first", "end"]
    assert heard[1].wait_for(2) == ["for the second", "end"]


def test_15_broadcast_reaches_everyone_once_and_is_packed_once(
    make_server: MakeServer, connect: Connect
) -> None:
    protocol = CountingProtocol()
    server = make_server(conn_per_user=2, protocol=protocol)
    recorders = []
    for cid in ["ann", "ann", "ben", "cleo", "dan"]:
        recorder = Recorder()
        connect(server, cid).channel.on("news", recorder)
        recorders.append(recorder)
    assert server.broadcast("news", [1, 2]) == 5
    assert server.broadcast("news", "end") == 5
    for recorder in recorders:
        assert recorder.wait_for(2) == [[1, 2], "end"]
    assert protocol.packed.items.count("news") == 2


def test_15_send_to_many_devices_is_packed_once(make_server: MakeServer, connect: Connect) -> None:
    protocol = CountingProtocol()
    server = make_server(conn_per_user=3, protocol=protocol)
    heard = Recorder()
    for _ in range(3):
        connect(server, "ann").channel.on("news", heard)
    assert server.send("ann", "news", 1) == 3
    assert heard.wait_for(3) == [1, 1, 1]
    assert protocol.packed.items.count("news") == 1


def test_15_broadcast_to_nobody_reaches_nobody(make_server: MakeServer) -> None:
    assert make_server().broadcast("news", 1) == 0


def test_15_devices_that_left_are_not_counted(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(conn_per_user=2)
    lives = note_lives(server)
    connect(server, "ann")
    second = connect(server, "ann")
    second.disconnect()
    lives.wait_until(has("disconnected"))
    assert server.send("ann", "news") == 1
    assert server.broadcast("news") == 1
    server.drop_client("ann")
    assert server.send("ann", "news") == 0
    assert server.broadcast("news") == 0


def test_15_broadcasts_of_one_thread_keep_their_order(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    heard = Recorder()
    connect(server, "ann").channel.on("n", heard)
    for number in range(300):
        if number % 3 == 0:
            server.broadcast("n", number)
        elif number % 3 == 1:
            server.send("ann", "n", number)
        else:
            server.clients["ann"].send("n", number)
    assert heard.wait_for(300) == list(range(300))
