"""How a stranger becomes a user: one connection of a server, and the decision to let it in.

Threads: the reader of a connection brings frames; the lane runs the challenge generator and the
identify handler; a decision may come from any thread. The lock of the connection guards what is
here, too.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .connection import Connection
from .constants import WSE_ERROR, WSE_REASON
from .core.handshake import Hello, ServerHandshake
from .errors import WseError
from .link import Link
from .loop import Timer, loop
from .protocol import Data
from .registry import Packed, WseIdentity
from .transport.base import Transport

if TYPE_CHECKING:
    from .server import WseServer

__all__ = ["AuthRequest", "Challenge", "WseConnection"]

_NORMAL = 1000
_STRANGER_BYTES = 64 * 1024  # a stranger's message may be this long


class Challenge(NamedTuple):
    """What a client was asked, and what it answered."""

    quest: Any
    response: Any


class AuthRequest:
    """Somebody wants in; decide with :meth:`accept` or :meth:`refuse`.

    The first decision counts, later ones do nothing. It may be taken after the handler has
    returned, in any thread, until ``auth_timeout``.

    Attributes:
        identity: What the client says it is: a name, a token, whatever the two ends agreed on.
        meta: What it adds, a dict.
        conn_id: Id of the connection.
        remote_addr: Address of the other end of the socket.
        environ: WSGI environ of the upgrade: headers, cookies, query.
        challenge: None, or an object with ``quest`` and ``response``.
    """

    def __init__(self, connection: WseConnection, hello: Hello) -> None:
        self._connection = connection
        self.identity = hello.identity
        self.meta = hello.meta
        self.conn_id = connection.conn_id
        self.remote_addr = connection.remote_addr
        self.environ = connection.environ
        self.challenge: Challenge | None = None

    def accept(self, cid: Any, welcome: Any = None) -> None:
        """Lets the client in.

        Args:
            cid: Id of the user; all connections with the same one are devices of one user. A falsy
                one refuses, and so does one that cannot be hashed: it may be what a stranger sent.
            welcome: Payload of the welcome.

        Raises:
            WseTypeError, WseValueError: The welcome cannot be packed; nothing is decided.
        """
        self._connection.accept(cid, welcome)

    def refuse(self) -> None:
        """Turns the client away: 1000 ``wse.not-authorized``, final for it."""
        self._connection.refuse()

    def __repr__(self) -> str:
        return f"<AuthRequest of {self._connection!r}>"


class WseConnection(Connection):
    """A connection of a user: one device, one browser tab.

    Attributes:
        conn_id: Its id, unique.
        cid: Id of the user; None until it is let in.
        identity: What the client said it is.
        meta: What it added.
        remote_addr: Address of the other end of the socket.
        environ: WSGI environ of the upgrade.
        data: A dict for the application's own use.
    """

    def __init__(self, server: WseServer, environ: dict[str, Any], transport: Transport) -> None:
        super().__init__(server, waits_for_room=False)
        self.conn_id = uuid.uuid4().hex
        self.cid: Any = None
        self.identity: Any = None
        self.meta: dict[str, Any] = {}
        self.remote_addr = transport.peer
        self.environ = environ
        self.data: dict[str, Any] = {}
        self.lane.max_bytes = _STRANGER_BYTES
        self._server = server
        self._client: WseIdentity | None = None
        self._handshake = ServerHandshake(server.protocol)
        self._auth: AuthRequest | None = None
        self._decided = False
        self._auth_timer: Timer | None = None
        transport.max_message_bytes = min(_STRANGER_BYTES, server.max_message_bytes)
        self._only_link = server.open_link(transport, self._receive, self._lost, self.faulted)
        self.lane.enter(self._only_link)

    @property
    def client(self) -> WseIdentity | None:
        """The user whose connection this is; None until it is let in."""
        return self._client

    @property
    def state(self) -> str:
        """``"open"``, ``"suspended"`` or ``"closed"``."""
        return "closed" if self._state == "new" else self._state

    def drop(self, reason: str = WSE_REASON.BY_SERVER) -> None:
        """Disconnects this device with 1000 and ``reason``; any thread, does not block."""
        self._only_link.close(_NORMAL, reason)

    # The life of a connection; the reader's thread

    def run(self, subprotocol: str | None) -> None:
        """Serves the connection until it has ended.

        Args:
            subprotocol: What was agreed on in the upgrade; None closes the connection.
        """
        if subprotocol is None:
            error = _violation(f"the client did not offer {self._server.protocol.name}")
            self.violated(self._only_link, error)
        elif self._server.auth_timeout is not None:
            with self._lock:
                if not self._decided:  # it may have been closed already
                    self._auth_timer = loop.call_later(self._server.auth_timeout, self._time_out)
        self._only_link.run()

    @property
    def link(self) -> Link:
        """The link that carries it."""
        return self._only_link

    def _receive(self, data: Data) -> None:
        if self._state == "open":
            self.receive(self._only_link, data)
        else:
            # What comes before the welcome waits in the lane, for the handshake or for its end.
            self.lane.post(partial(self._greet, data), len(data), source=self._only_link)
            self.await_room(self._only_link)

    def _lost(self, code: int, reason: str) -> None:
        with self._lock:
            was_open = self._state == "open"
            self._decided = True
        self.detach(code, reason)
        self._stop_auth_timer()
        if not was_open:
            self.lane.leave(self._only_link)
            self.lane.release()
            return
        tasks = [partial(self._server.when.disconnected.settle, self._server, self, code, reason)]
        if self._server.registry.remove(self):
            left = self._server.when.left
            tasks.append(partial(left.settle, self._server, self._client, code, reason))
        self.lane.leave(self._only_link, *tasks)

    def _time_out(self) -> None:
        with self._lock:
            if self._decided:
                return
            self._decided = True
        self._only_link.close(_NORMAL, WSE_REASON.AUTH_TIMEOUT)

    def _stop_auth_timer(self) -> None:
        with self._lock:
            timer, self._auth_timer = self._auth_timer, None
        if timer is not None:
            timer.cancel()

    # Authentication; the lane's thread, decisions from any

    def _greet(self, data: Data) -> None:
        """Takes a frame that came before the welcome went out."""
        if self._state == "open":
            self.receive_late(self._only_link, data)
            return
        if self._state == "closed":
            return
        try:
            event = self._handshake.receive(data)
        except WseError as error:
            self.violated(self._only_link, error)
            return
        if isinstance(event, Hello):
            self.identity, self.meta = event
            self._auth = AuthRequest(self, event)
            self._guard(self._challenge)
        else:
            assert self._auth is not None and self._auth.challenge is not None
            self._auth.challenge = Challenge(self._auth.challenge.quest, event.response)
            self._guard(self._identify)

    def _guard(self, step: Callable[[], None]) -> None:
        """A handler that raises refuses."""
        try:
            step()
        except BaseException as error:
            self.endpoint.report(error, self)
            self.refuse()

    def _challenge(self) -> None:
        assert self._auth is not None
        generator = self._server.generator
        if generator is None:
            self._identify()
            return
        quest = generator(self._auth)
        if not self._decided:
            self._auth.challenge = Challenge(quest, None)
            self._only_link.send(self._handshake.ask(quest))

    def _identify(self) -> None:
        assert self._auth is not None
        self.lane.hold()
        self._server.identify(self._auth)

    def accept(self, cid: Any, welcome: Any) -> None:
        """Carries out :meth:`AuthRequest.accept`."""
        if self._decided:
            return
        if not cid or not _is_hashable(cid):
            self.refuse()
            return
        data = self._handshake.welcome(welcome)
        with self._lock:
            if self._decided:
                return
            self._decided = True
            self.cid = cid
            # Registered before the welcome, and both under the lock that broadcasts take: whoever
            # has his welcome is in the list, and nobody hears anything before it.
            self._client, first, evicted = self._server.registry.add(self)
            self._only_link.transport.max_message_bytes = self._server.max_message_bytes
            self.lane.max_bytes = self._server.max_queue_bytes
            self._open(self._only_link)
            self._only_link.send(data)
        self._stop_auth_timer()
        if evicted is not None:
            evicted.drop(WSE_REASON.CLIENTS_CONCURRENCY)
        when = self._server.when
        tasks = [partial(when.connected.settle, self._server, self)]
        if first:
            tasks.insert(0, partial(when.joined.settle, self._server, self._client, self.meta))
        self.lane.release(*tasks)

    def refuse(self) -> None:
        """Carries out :meth:`AuthRequest.refuse`."""
        with self._lock:
            if self._decided:
                return
            self._decided = True
        self._only_link.close(_NORMAL, WSE_REASON.NOT_AUTHORIZED)

    def send_packed(self, packed: Packed) -> bool:
        """Sends what was packed for many; False if this connection is not open."""
        with self._lock:
            if self._state != "open":
                return False
            return self._only_link.outbox.write(packed.frame_for(self._only_link.transport))

    def __repr__(self) -> str:
        who = "a stranger" if self._client is None else f"{self.cid!r:.80}"
        return f"<WseConnection {self.conn_id[:8]} of {who} {self.state} from {self.remote_addr}>"


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _violation(text: str) -> WseError:
    return WseError(WSE_ERROR.PROTOCOL_VIOLATION, message=text)
