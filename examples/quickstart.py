"""The main things in one process: logins, devices, messages, calls, and a call that a cut survives.

Run it with ``python examples/quickstart.py``. It needs nothing but wse_sync, talks over real
sockets, and exits with 0 within a few seconds, or with an error if something went wrong.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from queue import Queue
from typing import Any

from wse_sync import (
    WSE_STATUS,
    AuthRequest,
    Backoff,
    WseClient,
    WseConnection,
    WseError,
    WseIdentity,
    WsePermissionError,
    WseServer,
)

PATIENCE = 10.0  # s; longer than anything here takes when it works
USERS = {"key-of-ann": "ann", "key-of-bob": "bob"}


def make_server(events: Queue[str], kettle: threading.Event) -> WseServer:
    """A server for the users above, each with up to two devices."""

    def identify(auth: AuthRequest) -> None:
        user = USERS.get(auth.identity)
        if user is None:
            auth.refuse()
        else:
            auth.accept(user, f"welcome, {user}")

    server = WseServer(identify, port=0, conn_per_user=2)

    @server.when.joined
    def joined(client: WseIdentity, meta: dict[str, Any]) -> None:
        events.put(f"{client.cid} joined")

    @server.when.left
    def left(client: WseIdentity, code: int, reason: str) -> None:
        events.put(f"{client.cid} left ({code} {reason})")

    @server.when.suspended
    def suspended(conn: WseConnection) -> None:
        events.put(f"{conn.cid}'s {conn.meta['kind']} is away")

    @server.when.resumed
    def resumed(conn: WseConnection) -> None:
        events.put(f"{conn.cid}'s {conn.meta['kind']} is back")

    @server.channel.on("chat")
    def chat(conn: WseConnection, message: dict[str, str]) -> None:
        server.send(message["to"], "chat", f"{conn.cid} says: {message['text']}")

    @server.register("add")
    def add(conn: WseConnection, numbers: list[int]) -> int:
        return sum(numbers)

    @server.register("buy")
    def buy(conn: WseConnection, what: str) -> None:
        raise WseError("shop.sold-out", {"what": what}, f"no more {what} today")

    @server.register("brew")
    def brew(conn: WseConnection, what: str) -> str:
        events.put(f"brewing {what}")
        kettle.wait(PATIENCE)
        return f"a pot of {what}"

    return server


def make_device(url: str, battery: int) -> WseClient:
    """A client that knows how full its battery is."""
    device = WseClient(url, reconnect=True, backoff=Backoff(initial=0.1))
    device.register("battery", lambda _: f"{battery} %")
    return device


class Cable:
    """A TCP forwarder that carries one link at a time, and can be cut."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._ends: list[socket.socket] = []
        self._plugged = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._carry_on, daemon=True).start()

    def plug(self) -> None:
        self._plugged.set()

    def cut(self) -> None:
        """Ends the TCP connections without a goodbye; new ones wait until it is plugged again."""
        self._plugged.clear()
        for end in self._ends:
            with suppress(OSError):  # that one is down already
                end.shutdown(socket.SHUT_RDWR)

    def _carry_on(self) -> None:
        while self._plugged.wait():
            near, _ = self._listener.accept()
            with near, socket.create_connection(self._target) as far, suppress(OSError):
                self._ends = [near, far]
                self._carry(near, far)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        while True:
            for end in select.select([near, far], [], [])[0]:
                data = end.recv(65536)
                if not data:
                    return
                (far if end is near else near).sendall(data)


def call_both_ways(server: WseServer, bob: WseClient) -> None:
    print("Both sides call procedures of the other")
    print("  bob: 2 + 3 =", bob.call("add", [2, 3]))
    for conn in server.clients["ann"].conns.values():
        print(f"  server: the battery of ann's {conn.meta['kind']}:", conn.call("battery"))
    try:
        bob.call("buy", "tea")
    except WseError as error:
        print("  bob:", error)


def go_through_a_tunnel(
    cable: Cable, phone: WseClient, bob: WseClient, events: Queue[str], kettle: threading.Event
) -> None:
    print("A link is cut in the middle of a call, and the answer arrives")
    states: Queue[WSE_STATUS] = Queue()
    phone.when.updated(states.put)
    inbox = bob.channel.listen("chat")
    tea = phone.submit("brew", "green tea")
    print("  server:", events.get(timeout=PATIENCE))
    cable.cut()
    print("  server:", events.get(timeout=PATIENCE))
    while states.get(timeout=PATIENCE) is not WSE_STATUS.RE_CONNECTING:
        pass
    print("  ann's phone:", phone.status)
    phone.send("chat", {"to": "bob", "text": "I am in a tunnel"})
    kettle.set()  # the tea is ready, and there is no link to say so
    cable.plug()
    print("  server:", events.get(timeout=PATIENCE))
    print("  bob:", inbox.get(PATIENCE))
    print("  ann's phone:", tea.result(PATIENCE))


def main() -> None:
    events: Queue[str] = Queue()
    kettle = threading.Event()
    with make_server(events, kettle) as server:
        assert server.port is not None  # it listens
        cable = Cable(server.port)
        cable.plug()

        print("Two users log in, one of them with two devices")
        phone = make_device(cable.url, battery=80)
        laptop = make_device(server.url, battery=35)
        bob = make_device(server.url, battery=100)
        at_phone, at_laptop, at_bob = (d.channel.listen() for d in (phone, laptop, bob))
        print("  ann's phone:", phone.connect("key-of-ann", {"kind": "phone"}, timeout=PATIENCE))
        print("  server:", events.get(timeout=PATIENCE))
        print("  ann's laptop:", laptop.connect("key-of-ann", {"kind": "laptop"}, timeout=PATIENCE))
        print("  bob:", bob.connect("key-of-bob", timeout=PATIENCE))
        print("  server:", events.get(timeout=PATIENCE))
        print("  server: devices by user:", {u: len(c.conns) for u, c in server.clients.items()})

        print("A stranger is refused")
        stranger = WseClient(server.url)
        try:
            stranger.connect("key-of-nobody", timeout=PATIENCE)
        except WsePermissionError as error:
            print("  stranger:", error)

        print("A message reaches every device of a user")
        bob.send("chat", {"to": "ann", "text": "hello"})
        print("  ann's phone:", at_phone.get(PATIENCE))
        print("  ann's laptop:", at_laptop.get(PATIENCE))

        print("A broadcast reaches everyone")
        print("  server: sent to", server.broadcast("news", "tea is ready"), "devices")
        print("  ann's phone:", at_phone.get(PATIENCE))
        print("  ann's laptop:", at_laptop.get(PATIENCE))
        print("  bob:", at_bob.get(PATIENCE))

        call_both_ways(server, bob)
        go_through_a_tunnel(cable, phone, bob, events, kettle)

        print("Everybody leaves")
        bob.disconnect()
        print("  server:", events.get(timeout=PATIENCE))
        phone.disconnect()
        laptop.disconnect()
        print("  server:", events.get(timeout=PATIENCE))
        print("  server: users left:", len(server.clients))


if __name__ == "__main__":
    main()
