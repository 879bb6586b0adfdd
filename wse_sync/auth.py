"""Somebody wants in: the handshake of one arrival, and the decision to let it in.

Threads: the lane of the connection runs the challenge generator and the identify handler; a
decision may come from any thread. ``Admission._lock`` guards whether it was taken, and the timer;
under it only the lock of the loop is taken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from . import clock
from .constants import WSE_REASON
from .core.handshake import Grant, Hello, Offer, ServerHandshake, SessionGrant
from .errors import WseError
from .expiry import parse_expiry
from .interrupts import aside
from .link import Link
from .loop import Timer, loop
from .protocol import Data

if TYPE_CHECKING:
    from .server import WseServer
    from .sessions import WseConnection

__all__ = ["Admission", "AuthRequest", "Challenge"]

_NORMAL, _INTERNAL_ERROR = 1000, 1011


class Challenge(NamedTuple):
    """What a client was asked, and what it answered."""

    quest: Any
    response: Any

    def __repr__(self) -> str:
        return "<Challenge>"  # for logs: both may be secrets


class AuthRequest:
    """Somebody wants in; decide with :meth:`accept` or :meth:`refuse`.

    The first decision counts, later ones do nothing. It may be taken after the handler has
    returned, in any thread, until ``auth_timeout``.

    Attributes:
        identity: What the client says it is: a name, a token, whatever the two ends agreed on.
        meta: What it adds, a dict.
        conn_id: Id of the connection; one that comes back into its session keeps that of before.
        remote_addr: Address of the other end of the socket; behind proxies, see ``trusted_hops``.
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

    def accept(self, cid: Any, welcome: Any = None, *, expires_at: Any = None) -> None:
        """Lets the client in.

        Args:
            cid: Id of the user; all connections with the same one are devices of one user. A falsy
                one refuses, and so does one that cannot be hashed: it may be what a stranger sent.
            welcome: Payload of the welcome.
            expires_at: Until when: seconds since the epoch, as ``time.time()`` gives them, or a
                datetime with a time zone; None: for ever. The connection is closed then, and its
                session is over, with or without a link: 1008 ``wse.not-authorized``, final for the
                client. When it comes back before, what is said then counts. A time that has passed
                refuses.

        Raises:
            WseTypeError, WseValueError: The welcome cannot be packed, or the time is none; nothing
                is decided.
        """
        aside(partial(self._connection.admission.accept, cid, welcome, expires_at))

    def refuse(self) -> None:
        """Turns the client away: 1000 ``wse.not-authorized``, final for it."""
        aside(self._connection.admission.refuse)

    def __repr__(self) -> str:
        return f"<AuthRequest of {self._connection!r}>"


class Admission:
    """The handshake of a connection.

    Args:
        connection: A stranger.
        server: Where it wants in.
    """

    def __init__(self, connection: WseConnection, server: WseServer) -> None:
        self._connection = connection
        self._server = server
        self.handshake = ServerHandshake(server.protocol)
        #: What the client said of sessions; None if it knows nothing of them.
        self.offer: Offer | None = None
        #: The connection whose session it asked for.
        self.asked_for: WseConnection | None = None
        #: Until when it was let in, as a time of ``clock.wall()``; None: for ever.
        self.ends_at: float | None = None
        self._auth: AuthRequest | None = None
        self._lock = threading.Lock()
        self._decided = False
        self._timer: Timer | None = None
        self._working = False  # code of users runs for it
        self._over = False

    @property
    def link(self) -> Link:
        """The link of the stranger."""
        return self._connection.arrival

    def start(self) -> None:
        """The time to be let in begins."""
        timeout = self._server.auth_timeout
        with self._lock:
            if timeout is not None and not self._decided:  # it may have been closed already
                self._timer = loop.call_later(timeout, self._time_out)

    def abandon(self) -> None:
        """The link is over: nothing can be decided any more."""
        self._reject()

    def end(self) -> None:
        """The thread of the link is gone, too; the place goes with the last that runs.

        Or one host could have any number of threads, by leaving before ``identify`` returns.
        """
        with self._lock:
            self._over, working = True, self._working
        if not working:
            self._server.strangers.leave(self.link.transport)

    def _decide(self) -> bool:
        """Whether this is the first decision."""
        with self._lock:
            first, self._decided = not self._decided, True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return first

    def _reject(self) -> bool:
        """Decides not to let in; whether this is the first decision."""
        first = self._decide()
        if first:
            self._withdraw()
        return first

    def _withdraw(self) -> None:
        """It asks for no session any more."""
        asked_for, self.asked_for = self.asked_for, None
        if asked_for is not None:
            asked_for.ask_no_more(self._connection.arrived)

    def _time_out(self) -> None:
        if self._reject():
            self.link.close(_NORMAL, WSE_REASON.AUTH_TIMEOUT)

    def receive(self, data: Data) -> None:
        """Takes a frame of the handshake; the lane's thread."""
        try:
            event = self.handshake.receive(data)
        except WseError as error:
            self._connection.violated(self.link, error)
            return
        if isinstance(event, Hello):
            self._greet(event)
            self._guard(self._challenge)
        else:
            assert self._auth is not None and self._auth.challenge is not None
            self._auth.challenge = Challenge(self._auth.challenge.quest, event.response)
            self._guard(self._identify)

    def _greet(self, hello: Hello) -> None:
        self._connection.identity, self._connection.meta, self.offer = hello
        self._auth = AuthRequest(self._connection, hello)
        if self.offer is not None and self.offer.session_id is not None:
            # Now, not when it is let in: of several that ask at the same time the newest gets it.
            found = self._server.registry.find_session(self.offer.session_id)
            self.asked_for = found
            if found is not None:
                found.ask(self._connection.arrived)
                if self._decided:  # it has just been abandoned, and nobody else would say so
                    found.ask_no_more(self._connection.arrived)

    def _guard(self, step: Callable[[], None]) -> None:
        """A handler that raises refuses."""
        with self._lock:
            if self._over:
                return
            self._working = True
        try:
            step()
        except BaseException as error:
            self.refuse()
            self._server.report(error, self._connection)
        finally:
            with self._lock:
                over, self._working = self._over, False
            if over:
                self._server.strangers.leave(self.link.transport)

    def _challenge(self) -> None:
        assert self._auth is not None
        generator = self._server.generator
        if generator is None:
            self._identify()
            return
        quest = self._server.run_handler(self._connection, generator, self._auth)
        if not self._decided:
            self._auth.challenge = Challenge(quest, None)
            self.link.send(self.handshake.ask(quest))

    def _identify(self) -> None:
        assert self._auth is not None
        self._connection.lane.hold()
        self._server.run_handler(self._connection, self._server.identify, self._auth)

    def refuse(self) -> None:
        """Carries out :meth:`AuthRequest.refuse`."""
        if self._reject():
            self.link.close(_NORMAL, WSE_REASON.NOT_AUTHORIZED)

    def accept(self, cid: Any, welcome: Any, expires_at: Any = None) -> None:
        """Carries out :meth:`AuthRequest.accept`."""
        if self._decided:
            return
        ends_at = parse_expiry(expires_at)
        is_over = ends_at is not None and ends_at <= clock.wall()
        if not cid or not _is_hashable(cid) or is_over:
            self.refuse()
            return
        self.handshake.welcome(welcome)  # raises if it cannot be packed
        if self._decide():
            self._server.strangers.leave(self.link.transport)
            self.ends_at = ends_at
            self._let_in(cid, welcome)

    def _let_in(self, cid: Any, payload: Any) -> None:
        """Back into the session that was asked for, or into a new one."""
        try:
            if not self._resume(cid, payload):
                self._connection.enter(cid, payload)
        except BaseException:  # of the protocol or the cid; or Ctrl-C
            self.link.close(_INTERNAL_ERROR)
            raise

    def _resume(self, cid: Any, payload: Any) -> bool:
        """Whether it goes on with the session that was asked for, which is for the same user."""
        asked_for = self.asked_for
        try:
            if asked_for is None or asked_for.cid != cid:
                return False
            return asked_for.take_over(self._connection, payload)
        finally:  # not before it has that, or an older link might get it meanwhile
            self._withdraw()

    @property
    def wants_session(self) -> bool:
        """Whether the client comes back when its link is lost."""
        return self.offer is not None and self.offer.wants_session

    def welcome(self, connection: WseConnection, payload: Any, *, resumed: bool) -> Data:
        """Packs the welcome: what the client asked for in it, and no more.

        Args:
            connection: What the client talks to from now on.
            payload: Of the welcome.
            resumed: Whether that is the one whose session it asked for.
        """
        session = None
        if connection.session_id is not None:
            received, window = connection.session.received, self._server.resume_window
            session = SessionGrant(connection.session_id, resumed, received, window)
        grant = None if self.offer is None else Grant(str(connection.cid), session)
        return self.handshake.welcome(payload, grant)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
