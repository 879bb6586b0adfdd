"""The connections of a server: how a stranger becomes a user, and a user outlives a link.

Threads: the readers of links bring frames and say when the links are lost; users end connections
from any thread, the loop those that have waited for too long. The locks of the connection guard
what is here, too. A newcomer's lock and that of the session it asked for are never held together.

Every link arrives as a connection of its own, a stranger. When it is let in and has named a session
that waits for it, the connection of that session takes over its link, and the stranger is gone.
"""

from __future__ import annotations

import itertools
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

from .auth import Admission
from .connection import Connection
from .constants import RETRY_CODES, WSE_ERROR, WSE_REASON
from .core.delivery import Delivery, Outgoing
from .errors import WseError
from .interrupts import aside
from .link import CLOSE_TIMEOUT, Link
from .loop import Timer, loop
from .protocol import Data
from .rates import Meter
from .registry import WseIdentity
from .transport.base import Transport

if TYPE_CHECKING:
    from .server import WseServer

__all__ = ["WseConnection"]

_NORMAL, _ABNORMAL, _TRY_LATER = 1000, 1006, 1013
_STRANGER_BYTES = 64 * 1024  # so much may come from a stranger in all, after the upgrade
_SECRET_BYTES = 24  # of a session id: 192 random bits
_ID_BYTES = 16
# So long a client that owes us acknowledgements has to send one: it may do so after a second, and
# needs time to read what comes before. Nobody is expected to be slower than this.
_PATIENCE, _LEAST_RATE = 3.0, 64 * 1024  # s; bytes/s


_arrivals = itertools.count()


class WseConnection(Connection):
    """A connection of a user: one device, one browser tab.

    Attributes:
        conn_id: Its id, unique.
        cid: Id of the user; None until it is let in.
        identity: What the client said it is; here and below, when it came back last.
        meta: What it added.
        remote_addr: Address of the other end of the socket; behind proxies, see ``trusted_hops``.
        environ: WSGI environ of the upgrade.
        data: A dict for the application's own use.
    """

    def __init__(self, server: WseServer, environ: dict[str, Any], transport: Transport) -> None:
        super().__init__(server, waits_for_room=False)
        self.conn_id = secrets.token_hex(_ID_BYTES)
        self.cid: Any = None
        self.identity: Any = None
        self.meta: dict[str, Any] = {}
        self.remote_addr = transport.peer
        self.environ = environ
        self.data: dict[str, Any] = {}
        #: A secret: whoever knows it, and is let in as the same user, gets the session.
        self.session_id: str | None = None
        self.lane.max_bytes = _STRANGER_BYTES
        self.meter = server.rate_limit and Meter(server.rate_limit)
        self._server = server
        self._client: WseIdentity | None = None
        #: Its place in the order in which links arrived; of its latest link.
        self.arrived = next(_arrivals)
        #: How many links it has taken over.
        self.links = 0
        self._askers: set[int] = set()
        #: The latest arrival that has this session or asks for it.
        self.claimed = self.arrived
        self._heir: WseConnection | None = None  # who has taken over the link that it came with
        self._ending = False
        self._window: Timer | None = None
        self._patience: Timer | None = None
        transport.max_message_bytes = min(_STRANGER_BYTES, server.max_message_bytes)
        transport.restrict(_STRANGER_BYTES)
        #: The link that it came with.
        self.arrival: Link = server.open_link(
            transport,
            self._receive,
            lambda code, reason: self._lost(self.arrival, code, reason),
            self.faulted,
        )
        self.lane.enter(self.arrival)
        self.admission = Admission(self, server)

    @property
    def client(self) -> WseIdentity | None:
        """The user whose connection this is; None until it is let in."""
        return self._client

    @property
    def state(self) -> str:
        """``"open"``, ``"suspended"`` or ``"closed"``."""
        return "closed" if self._state == "new" else self._state

    def drop(self, reason: str = WSE_REASON.BY_SERVER) -> None:
        """Disconnects this device with 1000 and ``reason``, and ends its session.

        Any thread, does not block.
        """
        aside(partial(self.end, _NORMAL, reason))

    # The life of a connection; the reader's thread

    def run(self, subprotocol: str | None) -> None:
        """Serves the link that it came with until that has ended.

        Args:
            subprotocol: What was agreed on in the upgrade; None closes the connection.
        """
        if subprotocol is None:
            message = f"the client did not offer {self._server.protocol.name}"
            self.violated(self.arrival, WseError(WSE_ERROR.PROTOCOL_VIOLATION, message=message))
        else:
            self.admission.start()
        self.arrival.run()

    def _receive(self, data: Data) -> None:
        if self._state in ("new", "closed"):
            # What comes before the welcome waits in the lane, for the handshake or for its end. The
            # end may have come just now: whoever was not let in is not heard.
            greet = partial(self._greet, data)
            self.lane.post(greet, len(data), source=self.arrival)
            self.await_room(self.arrival)
        else:
            self.receive(self.arrival, data)

    def _greet(self, data: Data) -> None:
        """Takes a frame that came before the welcome went out; the lane's thread."""
        if self._heir is not None:
            self._heir.receive_late(self.arrival, data)
        elif self._state == "new":
            self.admission.receive(data)
        elif self._state != "closed":
            self.receive_late(self.arrival, data)

    def _lost(self, link: Link, code: int, reason: str) -> None:
        """A link is over; in whatever thread found out."""
        surplus = None
        with self._lock:
            before = self._state
            if before == "closed" or (before != "new" and self._link is not link):
                return  # another link has taken over
            suspend = before == "open" and self._outlives((code, reason))
            calls, _ = self._detach(suspend=suspend, resume=suspend)
            if suspend:
                surplus = self._server.registry.suspend(self)
                window = self._server.resume_window
                self._window = loop.call_later(window, partial(self.expire, self.links))
                # Here, so that nothing of the next link comes before it.
                suspended = self._server.when.suspended
                self.lane.leave(link, self._server.happened(suspended, self, self))
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
        if not suspend:  # or it may be that of the next link by now
            self._stop_acks()
        self.admission.abandon()
        self._callers.disconnect(calls, code, reason)
        if surplus is not None:
            surplus.expire()
        if before == "new":
            self.lane.leave(link)
            self.lane.release()
        elif not suspend:
            self._bury(link, code, reason)

    def _bury(self, link: Link | None, code: int, reason: str) -> None:
        """Says that the connection is gone."""
        server, when = self._server, self._server.when
        server.expiries.set(self, None)
        tasks = [server.happened(when.disconnected, self, self, code, reason)]
        if server.registry.remove(self):
            tasks.append(server.happened(when.left, self, self._client, code, reason))
        server.registry.linger(self)
        self.lane.leave(link, *tasks)

    # The end of a session; any thread

    def end(
        self, code: int, reason: str, *, timeout: float = CLOSE_TIMEOUT, links: int | None = None
    ) -> None:
        """Ends the connection for good, with a link or without.

        Args:
            code: Of the close frame; 1006 cuts the link without one.
            reason: Its text.
            timeout: For the close frame, what waits before it and its answer, in seconds.
            links: Not if it has taken over more than so many.
        """
        with self._lock:
            if links not in (None, self.links):
                return
            self._ending = True
            link = self.arrival if self._state == "new" else self._link
        if link is None:
            self._end_suspended(code, str(reason))
        elif code == _ABNORMAL:
            link.fail(code, str(reason))
        else:
            self.settle_acks(link)
            link.close(code, reason, timeout=timeout)

    def expire(self, links: int | None = None) -> None:
        """The window of the session is over, if it has had no other link since."""
        self._end_suspended(_ABNORMAL, WSE_REASON.SESSION_EXPIRED, links)

    def _end_suspended(self, code: int, reason: str, links: int | None = None) -> None:
        with self._lock:
            if self._state != "suspended" or links not in (None, self.links):
                return
            calls, lost = self._detach(suspend=False, resume=False)
            self._stop_window()
        self._stop_acks()
        self.endpoint.log.info("%r: ended; %d messages may be lost", self, sum(lost.values()))
        self._callers.disconnect(calls, code, reason)
        self._bury(None, code, reason)

    def _outlives(self, verdict: tuple[int, str] | None) -> bool:
        if not self.session.is_session or self._ending or self._server.is_closing:
            return False
        if verdict is None:
            return True
        return verdict[0] in RETRY_CODES and verdict[1] != WSE_REASON.SLOW_CONSUMER

    def _has_queue_room(self, frame: Outgoing) -> bool:
        return self.session.has_room(len(frame.data))

    def _overrun(self) -> None:
        if not self._ending:
            self._ending = True
            # By the loop: the lock is held.
            loop.call_later(0.0, partial(self.end, _TRY_LATER, WSE_REASON.SLOW_CONSUMER))

    def _why_not_ready(self) -> str:
        if self._state == "suspended":
            limits = self._server.limits
            return (
                f"{self!r} is away, and resume_buffer_bytes ({limits.max_bytes}) or"
                f" resume_buffer_frames ({limits.max_frames}) wait for it: its session ends"
            )
        return super()._why_not_ready()

    def _crowded(self, link: Link) -> None:
        # A burst gets there as well, with a client that is about to acknowledge it. So nothing more
        # is kept, and whoever acknowledges nothing for a while is given up.
        self.session.trim()
        self._be_patient(link)

    def _be_patient(self, link: Link) -> None:
        if self._patience is None:
            patience = _PATIENCE + self.session.kept_bytes / _LEAST_RATE
            expected = partial(self._lose_patience, link, self.session.acknowledged)
            self._patience = loop.call_later(patience, expected)

    def _lose_patience(self, link: Link, seen: int) -> None:
        with self._lock:
            self._patience = None
            if self._link is not link or self.session.acknowledged != seen:
                return
            if link.paused or link.outbox.waiting_bytes:
                # We do not read, or it has not got it all yet: the outbox has bounds of its own.
                self._be_patient(link)
                return
        link.overflow()

    def _stop_window(self) -> None:
        if self._window is not None:
            self._window.cancel()
            self._window = None

    # Let in; any thread

    def enter(self, cid: Any, welcome: Any) -> None:
        """Begins a conversation."""
        with self._lock:
            if self._state != "new":
                return  # the link was lost meanwhile
            self.cid = cid
            if self.admission.wants_session and self._server.resume_window:
                self.session_id = secrets.token_urlsafe(_SECRET_BYTES)
                self.session = Delivery(self._server.limits, self.session_id)
            data = self.admission.welcome(self, welcome, resumed=False)
            # Registered before the welcome, and both under the lock that broadcasts take: whoever
            # has his welcome is in the list, and nobody hears anything before it.
            self._client, first, evicted = self._server.registry.add(self)
            if evicted is self:
                self.arrival.send(data)
            else:
                self._begin(self.admission, data)
        if evicted is self:
            # Whoever has another link needs no goodbye here; anybody else may try again.
            self.arrival.fail()
            return
        if evicted is not None:
            evicted.end(_NORMAL, WSE_REASON.CLIENTS_CONCURRENCY)
        server, when = self._server, self._server.when
        tasks = [server.happened(when.connected, self, self)]
        if first:
            tasks.insert(0, server.happened(when.joined, self, self._client, self.meta))
        self.lane.release(*tasks)

    def _begin(self, admission: Admission, welcome: Data) -> None:
        """Goes on over a link, with the welcome; the lock is held."""
        link = admission.link
        self._server.expiries.set(self, admission.ends_at)
        link.transport.max_message_bytes = self._server.max_message_bytes
        link.transport.lift()
        self.lane.max_bytes = self._server.max_queue_bytes
        self.session.tell()
        self._open(link, welcome)

    # Back into a session

    def ask(self, arrival: int) -> None:
        """Somebody who came with this number asks for the session, and is not let in yet."""
        with self._lock:
            self._askers.add(arrival)
            self.claimed = max({self.arrived, *self._askers})

    def ask_no_more(self, arrival: int) -> None:
        """The end of :meth:`ask`: that was decided, or the link is over."""
        with self._lock:
            self._askers.discard(arrival)
            self.claimed = max({self.arrived, *self._askers})

    def take_over(self, newcomer: WseConnection, welcome: Any) -> bool:
        """Goes on, on the link of a newcomer; False if that shall begin anew.

        Args:
            newcomer: Was let in as the same user.
            welcome: Payload of the welcome.
        """
        link, offer = newcomer.arrival, newcomer.admission.offer
        assert offer is not None
        with self._receiving, self._lock:
            if self._ending or self._state not in ("open", "suspended"):
                return False
            if newcomer.arrived < self.claimed:
                # Its hi was long on its way: the client has come back on a newer link since, or is
                # about to.
                return False
            possible = self.session.can_resume(offer.received)
            if possible:
                data = newcomer.admission.welcome(self, welcome, resumed=True)
                receive, lost = partial(self.receive, link), partial(self._lost, link)
                if not link.hand_over(receive, lost, self.faulted):
                    return True  # it is gone again: the session waits for the next one
                before = self._link
                self._return_on(newcomer, offer.received, data)
        if not possible:
            self.end(_ABNORMAL, WSE_REASON.SESSION_EXPIRED)
            return False
        if before is not None:
            # We have not noticed that it is dead, or it is a copy of the client that has just come.
            before.close(_NORMAL, WSE_REASON.CLIENTS_CONCURRENCY, at_once=True)
        newcomer.part()
        return True

    def part(self) -> None:
        """The end of a newcomer that has given its link away."""
        with self._lock:
            self._state = "closed"
        self.lane.release()

    def _return_on(self, newcomer: WseConnection, received: int, welcome: Data) -> None:
        """The part of :meth:`take_over` that the locks are for."""
        newcomer._heir = self
        self.arrived = newcomer.arrived
        self.claimed = max(self.arrived, self.claimed)
        self.links += 1
        self._stop_window()
        self._server.registry.wake(self)
        self.identity, self.meta = newcomer.identity, newcomer.meta
        self.remote_addr, self.environ = newcomer.remote_addr, newcomer.environ
        self.lane.enter(newcomer.arrival)
        self.session.resume(received)
        self._begin(newcomer.admission, welcome)
        self.lane.post(self._server.happened(self._server.when.resumed, self, self))
        newcomer.lane.hand_over(self.lane)

    def __repr__(self) -> str:
        who = "a stranger" if self._client is None else f"{self.cid!r:.80}"
        return f"<WseConnection {self.conn_id[:8]} of {who} {self.state} from {self.remote_addr}>"
