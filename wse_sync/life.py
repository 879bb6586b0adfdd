"""The life of a client, from ``connect`` until it is offline for good.

One thread, ``wse-client-<n>``, started by ``connect`` (or ``jump``): it dials, does the handshake,
is the reader of the link, waits, and dials again. It blocks in the dialing of websocket-client, in
the read of its link, and in ``_changed`` between links. It ends by itself; ``stop`` asks it to, and
cuts what it blocks in.

``_changed`` (a condition) guards what other threads see of it: the target, the attempt, what is
being left, and whether it is over. Under it the locks of the dialer, of the client's status, of the
loop and of a stream in memory are taken; links are closed without it.
"""

from __future__ import annotations

import itertools
import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from . import clock
from .attempt import Attempt, Ended, closed_error, stopped_error
from .constants import RETRY_CODES, WSE_ERROR, WSE_REASON, WSE_STATUS
from .core.handshake import ClientHandshake, Grant, Offer, Quest, Welcome
from .errors import WseConnectionError, WseError, WseTimeoutError
from .link import Link
from .loop import loop
from .protocol import Data
from .target import Target
from .transport.base import Transport
from .transport.dialed import NetworkDialer
from .transport.dialing import Dialer, DialFailed, find_place

if TYPE_CHECKING:
    from .client import WseClient

__all__ = ["Life"]

_numbers = itertools.count(1)
_NORMAL, _ABNORMAL, _JUMP = 1000, 1006, 4000
_LAST_WORDS = 1.0  # s that they may take; they wait for nothing
_GIVE_UP = 1.0  # s to say goodbye when the caller has waited for long enough
_CUT_SHARE = 0.2  # of the time to stop: for the thread to notice that its link was cut


class Life:
    """Pursues one target after another, over one link after another."""

    def __init__(self, client: WseClient, target: Target) -> None:
        #: Whose life it is.
        self.client = client
        self._connection = client.connection
        self._changed = threading.Condition()
        self._target = target
        self._first = self._attempt = Attempt()
        self._dialer: Dialer | None = None
        #: The link that it has at the moment.
        self.link: Link | None = None
        self._welcomed = False  # on the current link
        self._ever_welcomed = False
        self._failure: BaseException | None = None  # of our side of the handshake
        self._turning = False
        self._stopping = False
        self._stop_reason = ""
        #: Whether the client is offline for good.
        self.over = False
        #: Whether the thread runs code of the user: a callable identity, or the solver.
        self.is_asking = False
        self._dials_at: float | None = None  # the end of the wait before the next attempt
        self._speaking = False  # its last words
        self._silent = threading.Event()
        self.thread = threading.Thread(
            target=self._run, name=f"wse-client-{next(_numbers)}", daemon=True
        )

    # From other threads

    def start(self) -> None:
        """Begins to dial."""
        self.client.set_status(WSE_STATUS.CONNECTING)
        self.thread.start()

    def welcome(self, timeout: float | None, attempt: Attempt | None = None) -> Any:
        """Blocks until the server has let us in; what it raises is what ``connect`` raises."""
        waiting = attempt or self._first
        try:
            with self._changed:
                done = clock.wait_for(self._changed, lambda: waiting.done, timeout)
        except BaseException:  # Ctrl-C
            self.client.disconnect(timeout=_GIVE_UP)
            raise
        if not done:
            self.client.disconnect(timeout=_GIVE_UP)
            raise WseTimeoutError(
                WSE_ERROR.CONNECTION_CLOSED, message=f"no welcome within {timeout} s"
            )
        if waiting.error is not None:
            raise waiting.error
        return waiting.payload

    def turn(self, target: Target) -> Attempt | None:
        """Leaves for another target; None if this life is over."""
        if self.thread is threading.current_thread():
            raise WseError(
                WSE_ERROR.CLIENT_ALREADY_CONNECTED,
                message="jump() in a callable identity or a solver would wait for itself",
            )
        with self._changed:
            if self.over:
                return None
            if self._stopping:
                raise WseConnectionError(
                    WSE_ERROR.CONNECTION_CLOSED, message="the client is being disconnected"
                )
            self._finish(WseConnectionError(WSE_ERROR.CONNECTION_CLOSED, message="jumped away"))
            attempt = self._attempt = Attempt()
            self._target = target
            self._turning = True
            # By the loop: a Ctrl-C here must not leave it half done.
            loop.call_later(0.0, partial(self._leave, self.link, self._dialer))
            self._changed.notify_all()
        return attempt

    def join(self) -> None:
        """Waits for the last words of a life that is over; it has nothing left to wait for."""
        self._silent.wait()

    def is_resting(self, handlers: bool) -> bool:
        """Whether its thread does nothing until time passes or somebody else does something.

        Args:
            handlers: Whether code of the user counts, but for that which asks.
        """
        with self._changed:
            if self._dials_at is not None and not (self._stopping or self._turning):
                return self._dials_at > clock.monotonic()
            if self.is_asking:
                return not handlers or self.thread is threading.current_thread()
            if self.link is not None:
                return self.link.is_resting
        return not self.thread.is_alive()

    def stop(self, reason: str, timeout: float) -> None:
        """Ends this life and waits for the thread, unless it is the caller's."""
        deadline = monotonic() + timeout
        with self._changed:
            if not self._stopping:
                self._stopping = True
                self._stop_reason = reason
            link, dialer = self.link, self._dialer
            self._changed.notify_all()
        self._leave(link, dialer, timeout * (1 - _CUT_SHARE))
        if self.thread is threading.current_thread():
            return
        if self.thread.ident is not None:
            self.thread.join(max(0.0, deadline - monotonic()))
        # If it has not said so itself: it looks up a name or asks a proxy, which nobody can end;
        # what it finds is dropped. Or it is about to end by itself, and has no more to say than we
        # have. Or Ctrl-C came before it had begun.
        self._go_offline(Ended(_ABNORMAL, "", False, stopped_error()), abandoned=True)
        if self.over:
            self._silent.wait(_LAST_WORDS)  # the thread may be in the middle of them

    def _leave(self, link: Link | None, dialer: Dialer | None, timeout: float = 3.0) -> None:
        if dialer is not None:
            dialer.abort()
        if link is not None:
            self._connection.settle_acks(link)
            link.close(*self._farewell(), timeout=timeout)

    def _farewell(self) -> tuple[int, str]:
        """With which words we go."""
        return (_NORMAL, self._stop_reason) if self._stopping else (_JUMP, "jump")

    # The thread

    def _run(self) -> None:
        ended = Ended(_ABNORMAL, "", False, closed_error(_ABNORMAL, ""))
        failures = 0
        try:
            while True:
                ended = self._pursue()
                if self._welcomed:
                    failures = 0
                if not self._goes_on(ended, failures):
                    break
                failures += 1
        except BaseException as error:
            # Of a callable identity: connect() raises it.
            ended = ended._replace(error=error)
            if self._ever_welcomed:
                self._post(partial(self.client.report, error))
        finally:
            self._go_offline(ended)

    def _pursue(self) -> Ended:
        """One attempt, and the life of the link that comes of it."""
        with self._changed:
            turning, self._turning, self._welcomed = self._turning, False, False
            self._failure = None
            target = self._target
        if turning and self._connection.session.is_session:
            # There was no link to leave: what the session has not settled ends here.
            loss = self._connection.detach(_JUMP, "jump", suspend=True)
            self._connection.report_lost(loss.messages)
        try:
            given = target.identity
            identity = self._ask(given) if callable(given) else given
        except Exception as unknown:
            if not (self.client.reconnect and self._ever_welcomed):
                raise
            # It worked before: whoever hands out tokens may be as unreachable as the server.
            self._post(partial(self.client.report, unknown))
            return Ended(_ABNORMAL, "", True, unknown)
        if self._stopping:  # long ago, maybe: the connection may be that of another life by now
            return Ended(_ABNORMAL, "", False, stopped_error())
        handshake = ClientHandshake(self.client.protocol, self._offer())
        hi = handshake.hi(identity, target.meta)
        try:
            code, reason = self._read(self._dial(target.url), handshake, hi)
        except DialFailed as failure:
            details = {} if failure.status is None else {"status": failure.status}
            error = WseConnectionError(WSE_ERROR.WS_CLIENT_ERROR, details, str(failure))
            self.client.log.info("%s", failure)
            return Ended(_ABNORMAL, "", not failure.final, error)
        if self._failure is not None:
            return Ended(code, reason, False, self._failure)
        return Ended(code, reason, code in RETRY_CODES, closed_error(code, reason))

    def _ask(self, function: Any, *arguments: Any) -> Any:
        """Runs code of the user in this thread."""
        self.is_asking = True
        try:
            return function(*arguments)
        finally:
            self.is_asking = False

    def _offer(self) -> Offer:
        """What to ask for: our cid; and when we come back at all, the session of before."""
        session = self._connection.session
        if not (self.client.reconnect and session.is_session):
            return Offer(self.client.reconnect)
        return Offer(True, session.id, self._connection.tell())

    def _dial(self, url: str) -> Transport:
        client = self.client
        make = find_place(url)
        dialer = NetworkDialer() if make is None else make(self)
        with self._changed:
            self._dialer = dialer
            if self._stopping or self._turning:
                dialer.abort()
        timeout = client.connect_timeout
        late = None if timeout is None else loop.call_later(timeout, dialer.abort)
        try:
            return dialer.dial(
                url, client.protocol.name, timeout, client.ssl_context, client.ws_options
            )
        finally:
            if late is not None:
                late.cancel()
            with self._changed:
                self._dialer = None

    def _read(self, transport: Transport, handshake: ClientHandshake, hi: Data) -> tuple[int, str]:
        """The life of a link; returns code and reason of its end."""
        transport.max_message_bytes = self.client.max_message_bytes
        link = self.client.open_link(
            transport,
            lambda data: self._receive(link, handshake, data),
            lambda code, reason: self._lost(link, code, reason),
            self._connection.faulted,
        )
        link.attach()
        with self._changed:
            if self._speaking:
                transport.stream.close()
                raise DialFailed("given up")
            # All of it before others can end the link, which tells of its end.
            self._connection.lane.enter(link)
            self._post(partial(self.client.when.connected.settle, self.client))
            self.link = link
            leaving = self._stopping or self._turning
        link.send(hi)
        if leaving:
            self._leave(link, None)
        verdict = link.run()
        with self._changed:
            self.link = None
        return verdict

    def _receive(self, link: Link, handshake: ClientHandshake, data: Data) -> None:
        if self._welcomed:
            self._connection.receive(link, data)
            return
        try:
            event = handshake.receive(data)
        except WseError as error:
            self._connection.violated(link, error)
            return
        if isinstance(event, Quest):
            self._solve(link, handshake, event)
        elif event is not None:
            self._be_welcomed(link, event)

    def _solve(self, link: Link, handshake: ClientHandshake, quest: Quest) -> None:
        solver = self.client.solver
        try:
            if solver is None:
                raise WseError(
                    WSE_ERROR.INVALID_CRA_HANDLER,
                    message="the server asks a quest: set a solver with client.challenge(…)",
                )
            link.send(handshake.solution(self._ask(solver, quest.payload)))
        except BaseException as error:
            self._failure = error
            link.close(_NORMAL, WSE_REASON.BY_CLIENT)

    def _be_welcomed(self, link: Link, welcome: Welcome) -> None:
        with self._changed:
            self._welcomed = self._ever_welcomed = True
        try:
            if not self._attach(link, welcome.grant):
                return
        except WseError as error:
            self._connection.violated(link, error)
            return
        payload = welcome.payload
        with self._changed:
            # Who sets the verdict takes this lock next, in _lost: READY cannot come after its
            # status.
            if link.verdict is None:
                self.client.set_status(WSE_STATUS.READY)
        self._post(partial(self.client.when.ready.settle, self.client, payload))
        with self._changed:
            if not self._turning:
                self._finish(None, payload)

    def _attach(self, link: Link, grant: Grant | None) -> bool:
        """Goes on with the session on this link, or begins a new one; False if the link is over."""
        self.client.cid = None if grant is None else grant.cid
        session = None if grant is None else grant.session
        if session is None:
            return self._connection.attach(link)
        if session.resumed:
            return self._connection.resume(link, session.received)
        return self._connection.attach(link, self.client.limits, session.id)

    def _lost(self, link: Link, code: int, reason: str) -> None:
        """The link is over; in whatever thread found out."""
        client = self.client
        with self._changed:
            expected = client.reconnect and not self._stopping and self._ever_welcomed
            expected = expected and (self._turning or code in RETRY_CODES)
            turning = self._turning
            leaving = turning or self._stopping
        loss = self._connection.detach(code, reason, suspend=expected, resume=not turning)
        if not (leaving and loss.was_open):  # or it went out before our goodbye
            self._connection.report_lost(loss.messages)
        self._connection.lane.leave(link, partial(client.when.closed.settle, client, code, reason))
        with self._changed:
            if expected:
                client.set_status(WSE_STATUS.RE_CONNECTING)
            elif turning:
                client.set_status(WSE_STATUS.CONNECTING)

    def _goes_on(self, ended: Ended, failures: int) -> bool:
        """Whether to dial again; after the wait that is due."""
        with self._changed:
            waits = ended.again and self.client.reconnect and not self._turning
            if waits:
                delay = self.client.backoff.delay(failures)
                self._dials_at = clock.monotonic() + delay
                clock.wait_for(self._changed, lambda: self._stopping or self._turning, delay)
                self._dials_at = None
            # Decided in one step: a jump comes before it and is heeded, or finds it over.
            self.over = self._stopping or not (waits or self._turning)
            return not self.over

    def _go_offline(self, ended: Ended, *, abandoned: bool = False) -> None:
        """The last words, said once: by the thread, or by who does not want to wait for it."""
        with self._changed:
            if self._speaking or (abandoned and self.link is not None and not self.link.told):
                return
            self._speaking = self.over = True
            stopping = self._stopping
        self._connection.report_lost(self._connection.detach(ended.code, ended.reason).messages)
        self.client.channel.interrupt("the client is offline")
        self.client.set_status(WSE_STATUS.OFFLINE)
        with self._changed:
            self._finish(stopped_error() if stopping else ended.error)
        self._silent.set()

    def _finish(self, error: BaseException | None, payload: Any = None) -> None:
        """Tells who waits how it went; the lock is held."""
        self._attempt.finish(error, payload)
        self._changed.notify_all()

    def _post(self, task: Any) -> None:
        self._connection.lane.post(task)
