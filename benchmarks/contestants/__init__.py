"""Who takes part, by name. Each contestant's library is imported only where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ..processes import Remote
from .bare import BareCalls, BareEcho
from .base import Client, Contestant, Served
from .by_hand import FuturesClient, LockedClient
from .ours import WseSync
from .peer_rpyc import Rpyc
from .peer_socketio import FlaskSocketIO, PythonSocketIO
from .peer_websockets import Websockets
from .peer_xmlrpc import Xmlrpc

__all__ = [
    "CONTESTANTS",
    "ECHO",
    "ECHO_UNCHECKED",
    "FLASK",
    "FUTURES",
    "LOCKED",
    "LOCKED_UNCHECKED",
    "OURS",
    "RPYC",
    "RPYC_LOOKUP",
    "SOCKETIO",
    "WEBSOCKETS",
    "WEBSOCKETS_FUTURES",
    "XMLRPC",
    "Entrant",
    "arena",
    "serve",
    "why_not",
]

OURS = "wse_sync"
ECHO, ECHO_UNCHECKED = "bare echo", "bare echo, unchecked"
LOCKED, LOCKED_UNCHECKED = "bare, one lock", "bare, one lock, unchecked"
FUTURES = "bare, futures"
WEBSOCKETS, WEBSOCKETS_FUTURES = "websockets", "websockets, futures"
SOCKETIO, FLASK, XMLRPC = "python-socketio", "Flask-SocketIO", "xmlrpc"
RPYC, RPYC_LOOKUP = "rpyc", "rpyc, looked up"

CONTESTANTS: dict[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        WseSync(),
        BareEcho(ECHO, checked=True),
        BareEcho(ECHO_UNCHECKED, checked=False),
        BareCalls(LOCKED, LockedClient, checked=True),
        BareCalls(LOCKED_UNCHECKED, LockedClient, checked=False),
        BareCalls(FUTURES, FuturesClient, checked=True),
        Websockets(WEBSOCKETS, LockedClient),
        Websockets(WEBSOCKETS_FUTURES, FuturesClient),
        PythonSocketIO(),
        FlaskSocketIO(),
        Rpyc(RPYC, kept=True),
        Rpyc(RPYC_LOOKUP, kept=False),
        Xmlrpc(),
    )
}


class Entrant(NamedTuple):
    """A contestant whose server runs and whose client is connected."""

    server: Remote
    client: Client


def serve(name: str, ping_interval: float | None = None) -> Served:
    """Makes the server of a contestant, in this process."""
    return CONTESTANTS[name].serve(ping_interval)


def why_not(name: str, *abilities: str) -> str:
    """Why a contestant cannot take part; empty if it can."""
    contestant = CONTESTANTS[name]
    if not contestant.installed:
        return "not installed"
    return next((contestant.cannot[key] for key in abilities if key in contestant.cannot), "")


@contextmanager
def arena(*names: str, cannot: dict[str, str], needs: str = "") -> Iterator[dict[str, Entrant]]:
    """Servers and clients of those that can take part.

    Args:
        names: Of contestants.
        cannot: Gets the others, and why.
        needs: The ability that it takes.
    """
    cannot.update({name: why for name in names if (why := why_not(name, needs))})
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(Remote(serve, name)) for name in names if name not in cannot
        }
        entrants = {}
        for name, server in servers.items():
            server.ready()
            client = CONTESTANTS[name].connect(server.do("where"))
            stack.callback(client.close)
            entrants[name] = Entrant(server, client)
        yield entrants
