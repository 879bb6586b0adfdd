"""Two connections that talk to each other, without sockets, a server or a client."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, Callable

import pytest

from tests.support import PATIENCE, Recorder, Thread, wait_event, wait_until
from wse_sync import (
    WSE_ERROR,
    JsonProtocol,
    WseConnectionError,
    WseError,
    WseLookupError,
    WseTimeoutError,
    WseTypeError,
    WseValueError,
)
from wse_sync.connection import Connection
from wse_sync.core.delivery import Outgoing
from wse_sync.core.peer import Message
from wse_sync.endpoint import Endpoint
from wse_sync.link import Link
from wse_sync.transport import memory
from wse_sync.transport.base import Transport

A_MOMENT = 0.05
MB = 2**20


class Talker(Endpoint):
    """The least that an end can be, with one connection."""

    def __init__(self, *, waits_for_room: bool = False, **options: Any) -> None:
        settings: dict[str, Any] = {
            "protocol": None,
            "call_timeout": PATIENCE,
            "ping_interval": None,
            "ping_timeout": None,
            "max_message_bytes": MB,
            "max_queue_bytes": MB,
            "max_workers": 16,
            "resume_buffer_bytes": MB,
            "resume_buffer_frames": 1000,
            "debug": False,
            "log": logging.getLogger("wse_sync.test"),
        }
        super().__init__(**{**settings, **options})
        self.errors = Recorder()
        self.ignored = Recorder()
        self.connection = TalkerConnection(self, waits_for_room=waits_for_room)
        self.suspends = False
        self.verdicts = Recorder()
        self._readers: list[Thread[tuple[int, str]]] = []

    def arguments(self, connection: Connection) -> tuple[Any, ...]:
        return ()

    def settle_error(self, error: BaseException, connection: Connection | None) -> None:
        self.errors.add(error)

    def settle_ignored(self, connection: Connection, message: Message) -> None:
        self.ignored.add((message.type, message.payload))

    def link_to(self, transport: Transport, *, reads: bool = True) -> Link:
        """Opens the connection on a transport."""
        transport.max_message_bytes = self.max_message_bytes
        link: Link = self.open_link(
            transport,
            lambda data: self.connection.receive(link, data),
            lambda code, reason: self._lost(link, code, reason),
            self.connection.faulted,
        )
        link.attach()
        self.connection.lane.enter(link)
        assert self.connection.attach(link)
        if reads:
            self.read(link)
        return link

    def read(self, link: Link) -> None:
        self._readers.append(Thread(link.run))

    def _lost(self, link: Link, code: int, reason: str) -> None:
        self.connection.detach(code, reason, suspend=self.suspends)
        self.connection.lane.leave(link)
        self.verdicts.add((code, reason))

    def send(self, type: Any, payload: Any = None) -> None:
        self.connection.send(type, payload)

    def call(self, name: Any, payload: Any = None, **options: Any) -> Any:
        return self.connection.call(name, payload, **options)

    def submit(self, name: Any, payload: Any = None, **options: Any) -> Any:
        return self.connection.submit(name, payload, **options)

    @property
    def open_calls(self) -> int:
        return len(self.connection._callers)

    def end(self) -> None:
        for reader in self._readers:
            reader.result()
        assert self.workers.join(PATIENCE)


class TalkerConnection(Connection):
    """The least that its connection can be."""

    endpoint: Talker

    def _outlives(self, verdict: tuple[int, str] | None) -> bool:
        return self.endpoint.suspends

    def _has_queue_room(self, frame: Outgoing) -> bool:
        return self.session.waiting_bytes + len(frame.data) <= self.endpoint.max_queue_bytes

    def _overrun(self) -> None:
        """Whoever wanted to send is told."""

    def _crowded(self, link: Link) -> None:
        raise AssertionError("nothing is kept without a session")


class Talk:
    """Two ends, and the link between them."""

    def __init__(self, near: Talker, far: Talker, capacity: int) -> None:
        self.near, self.far = near, far
        self._capacity = capacity
        self._links: list[Link] = []

    def connect(self, *, far_reads: bool = True) -> tuple[Link, Link]:
        for talker in (self.near, self.far):  # an end has one link at a time
            talker.verdicts.wait_for(len(self._links) // 2)
        here, there = memory.pair(self._capacity)
        links = self.near.link_to(here), self.far.link_to(there, reads=far_reads)
        self._links += links
        return links

    def end(self) -> None:
        for link in self._links:
            link.fail()
        self.near.end()
        self.far.end()


@pytest.fixture
def opened(loop_at_rest: None) -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def talk(
    opened: contextlib.ExitStack,
    near: dict[str, Any] | None = None,
    far: dict[str, Any] | None = None,
    *,
    capacity: int = 64 * 1024,
) -> Talk:
    """Two ends that are not connected yet."""
    made = Talk(Talker(**(near or {})), Talker(**(far or {})), capacity)
    opened.callback(made.end)
    return made


# Both kinds of end: one whose senders wait for room (a client), and one whose senders never wait.
ROLES = [{"waits_for_room": False}, {"waits_for_room": True}]


@pytest.fixture(params=ROLES, ids=["server", "client"])
def pair(request: pytest.FixtureRequest, opened: contextlib.ExitStack) -> tuple[Talker, Talker]:
    """Connected; the near one is of this kind, the far one of the other."""
    near = dict(request.param)
    far = {"waits_for_room": not near["waits_for_room"]}
    made = talk(opened, near, far)
    made.connect()
    return made.near, made.far


def error_of(run: Callable[[], Any]) -> WseError:
    with pytest.raises(WseError) as caught:
        run()
    return caught.value


def fail_with(error: BaseException) -> Callable[[Any], Any]:
    def procedure(payload: Any) -> Any:
        raise error

    return procedure


# Messages


def test_16_messages_arrive_in_order(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    for here, there in ((near, far), (far, near)):
        got = Recorder()
        there.channel.on("number", got)
        for number in range(500):
            here.send("number", number)
        assert got.wait_for(500) == list(range(500))


def test_17_a_type_without_a_handler_is_ignored(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    near.send("nobody", {"a": 1})
    assert far.ignored.wait_for(1) == [("nobody", {"a": 1})]


def test_20_a_handler_that_raises_is_reported_and_the_next_ones_run(
    pair: tuple[Talker, Talker], caplog: pytest.LogCaptureFixture
) -> None:
    near, far = pair
    got = Recorder()
    error = ValueError("broken")
    far.channel.on("x", fail_with(error))
    far.channel.on("x", got)
    near.send("x", 1)
    near.send("x", 2)
    assert got.wait_for(2) == [1, 2]
    assert far.errors.wait_for(2) == [error, error]
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("type", ["~wse:hi", "~wse:response", ""])
def test_types_that_users_must_not_send_raise(pair: tuple[Talker, Talker], type: str) -> None:
    near, _ = pair
    for run in (near.send, near.call, near.submit):
        with pytest.raises(WseValueError):
            run(type)
    assert near.open_calls == 0


@pytest.mark.parametrize(
    ("payload", "kind"),
    [(object(), WseTypeError), ({"a": [1, {2}]}, WseTypeError), (float("nan"), WseValueError)],
)
def test_26_a_payload_that_cannot_be_packed_raises_and_nothing_is_sent(
    pair: tuple[Talker, Talker], payload: Any, kind: type[WseError]
) -> None:
    near, far = pair
    for run in (near.send, near.call, near.submit):
        error = error_of(partial(run, "x", payload))
        assert type(error) is kind
        assert error.code == WSE_ERROR.RP_SEND_FAILED
    assert near.open_calls == 0
    near.send("y")
    assert far.ignored.wait_for(1) == [("y", None)]


def test_43_a_message_over_the_own_limit_raises_at_the_sender(
    opened: contextlib.ExitStack,
) -> None:
    made = talk(opened, {"max_message_bytes": 100}, {"max_message_bytes": 100})
    made.connect()
    overhead = len(JsonProtocol().pack("x", ""))
    made.near.send("x", "a" * (100 - overhead))
    with pytest.raises(WseValueError):
        made.near.send("x", "a" * (101 - overhead))
    with pytest.raises(WseValueError):
        made.near.send("x", "ü" * 60)
    with pytest.raises(WseValueError):
        made.near.call("x", "a" * 100)
    assert made.near.open_calls == 0
    made.near.send("x", "last")
    assert made.far.ignored.wait_for(2)[1] == ("x", "last")


# Calls


@pytest.mark.parametrize("result", [None, 0, "text", [1, {"a": None}]])
def test_22_results_come_back(pair: tuple[Talker, Talker], result: Any) -> None:
    near, far = pair
    far.register("give", lambda payload: result)
    assert near.call("give") == result
    assert near.open_calls == 0


def test_22_errors_come_back_as_they_were_raised(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    far.register("vanilla", fail_with(ZeroDivisionError("oh")))
    far.register("own", fail_with(WseError("shop.full", {"left": 0}, "come back")))
    vanilla = error_of(lambda: near.call("vanilla"))
    assert vanilla.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert vanilla.details == {
        "origin": {"name": "ZeroDivisionError", "message": "oh"},
        "rp": "vanilla",
    }
    own = error_of(lambda: near.call("own"))
    assert (own.code, own.details) == ("shop.full", {"left": 0, "rp": "own"})
    unknown = error_of(lambda: near.call("unknown"))
    assert isinstance(unknown, WseLookupError)
    assert unknown.code == WSE_ERROR.RP_NOT_REGISTERED
    told = far.errors.wait_for(3)
    assert sorted(error.details["rp"] for error in told) == ["own", "unknown", "vanilla"]
    causes = {error.details["rp"]: error.__cause__ for error in told}
    assert isinstance(causes["vanilla"], ZeroDivisionError)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_22_whatever_a_procedure_raises_is_an_answer(
    pair: tuple[Talker, Talker], error: BaseException
) -> None:
    near, far = pair
    far.register("x", fail_with(error))
    assert error_of(lambda: near.call("x")).code == WSE_ERROR.RP_EXECUTION_FAILED


def test_26_a_result_that_cannot_be_packed_fails_the_call(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    far.register("x", lambda payload: {"a": object()})
    error = error_of(lambda: near.call("x"))
    assert error.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert "object" in str(error)


def test_26_details_that_cannot_be_packed_are_left_out(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    far.register("x", fail_with(WseError("shop.full", {"basket": object()}, "come back")))
    error = error_of(lambda: near.call("x"))
    assert (error.code, error.details, error.message) == ("shop.full", {"rp": "x"}, "come back")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x" * 10_000),
        WseError("shop.full", message="x" * 10_000),
        WseError("shop.full", {"basket": "x" * 10_000}),
        WseError("x" * 10_000),
    ],
)
def test_26_an_error_that_is_too_long_fails_the_call_and_not_the_link(
    opened: contextlib.ExitStack, error: Exception
) -> None:
    made = talk(opened, {"max_message_bytes": 1000}, {"max_message_bytes": 1000})
    made.connect()
    made.far.register("x", fail_with(error))
    made.far.register("y", lambda payload: "fine")
    assert error_of(lambda: made.near.call("x")).details["rp"] == "x"
    assert made.near.call("y") == "fine"


def test_26_a_result_that_is_too_long_fails_the_call_and_not_the_link(
    opened: contextlib.ExitStack,
) -> None:
    made = talk(opened, {"max_message_bytes": 1000}, {"max_message_bytes": 1000})
    made.connect()
    made.far.register("x", lambda payload: "x" * payload)
    assert error_of(lambda: made.near.call("x", 1000)).code == WSE_ERROR.RP_EXECUTION_FAILED
    assert made.near.call("x", 10) == "x" * 10


def test_a_stack_is_sent_only_for_debugging(opened: contextlib.ExitStack) -> None:
    for debug in (False, True):
        made = talk(opened, far={"debug": debug})
        made.connect()
        made.far.register("x", fail_with(ValueError("no")))
        origin = error_of(partial(made.near.call, "x")).details["origin"]
        assert ("stack" in origin) is debug
        assert not debug or "in procedure" in origin["stack"]


def test_23_a_call_that_takes_too_long_raises_and_its_answer_is_dropped(
    pair: tuple[Talker, Talker],
) -> None:
    near, far = pair
    release, done = threading.Event(), threading.Event()

    def slow(payload: Any) -> str:
        wait_event(release)
        done.set()
        return "late"

    far.register("slow", slow)
    far.register("quick", lambda payload: "quick")
    error = error_of(lambda: near.call("slow", timeout=0.01))
    assert isinstance(error, WseTimeoutError)
    assert error.code == WSE_ERROR.RP_TIMEOUT
    assert error.details["rp"] == "slow"
    release.set()
    wait_event(done)
    assert near.call("quick") == "quick"
    assert near.open_calls == 0
    assert len(far.ignored) == len(near.ignored) == len(near.errors) == 0


def test_23_each_call_has_its_own_deadline(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    release = threading.Event()
    far.register("slow", lambda payload: wait_event(release))
    patient = near.submit("slow", timeout=None)
    late = near.submit("slow", timeout=PATIENCE)
    early = near.submit("slow", timeout=0.01)
    assert isinstance(early.exception(PATIENCE), WseTimeoutError)
    assert not late.done() and not patient.done()
    release.set()
    assert late.result(PATIENCE) is None
    assert patient.result(PATIENCE) is None


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", True])
def test_a_timeout_that_makes_no_sense_raises(pair: tuple[Talker, Talker], timeout: Any) -> None:
    near, _ = pair
    with pytest.raises((WseTypeError, WseValueError)):
        near.call("x", timeout=timeout)
    assert near.open_calls == 0


def test_27_many_threads_each_get_their_own_answer(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    far.register("echo", lambda payload: payload)

    def call_all(caller: int) -> list[Any]:
        return [near.call("echo", [caller, number]) for number in range(20)]

    callers = [Thread(partial(call_all, caller)) for caller in range(50)]
    for number, thread in enumerate(callers):
        assert thread.result(6 * PATIENCE) == [[number, each] for each in range(20)]


def test_19_calls_go_ten_deep_in_both_directions(pair: tuple[Talker, Talker]) -> None:
    near, far = pair

    def nest(here: Talker) -> Callable[[int], int]:
        return lambda depth: depth if depth == 10 else here.call("nest", depth + 1)

    near.register("nest", nest(near))
    far.register("nest", nest(far))
    callers = [Thread(lambda: near.call("nest", 0)) for _ in range(5)]
    for thread in callers:
        assert thread.result() == 10


def test_19_a_message_handler_may_call_back(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    near.register("double", lambda number: number * 2)
    got = Recorder()
    far.channel.on("number", lambda number: got.add(far.call("double", number)))
    for number in range(50):
        near.send("number", number)
    assert got.wait_for(50) == [number * 2 for number in range(50)]


def test_18_a_call_starts_after_the_messages_before_it(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    got = Recorder()
    far.channel.on("number", got)
    far.register("count", lambda payload: len(got))
    for count in range(1, 200):
        near.send("number", count)
        assert near.call("count") == count


# Answers


class Bare:
    """The other end, played by the test: it reads and writes frames."""

    def __init__(self, talker: Talker) -> None:
        here, self.transport = memory.pair()
        self.transport.attach(lambda data: None)
        self.link = talker.link_to(here)

    def write(self, *frame: Any) -> None:
        data = self.transport.encode(json.dumps(frame))
        assert self.transport.stream.send(data) == len(data)

    def read(self) -> list[Any]:
        found = json.loads(Thread(self.transport.read).result())
        assert isinstance(found, list)
        return found


@pytest.fixture
def talker(opened: contextlib.ExitStack) -> Talker:
    made = Talker()
    opened.callback(made.end)
    return made


@pytest.fixture
def bare(opened: contextlib.ExitStack, talker: Talker) -> Bare:
    made = Bare(talker)
    opened.callback(made.link.fail)
    return made


def test_23_answers_that_nobody_waits_for_are_dropped(talker: Talker, bare: Bare) -> None:
    bare.write("~wse:response", 1, "nobody")
    bare.write("~wse:response-err", {"code": "x"}, "nobody")
    bare.write("~wse:response", 1)
    bare.write("~wse:response", 1, None)
    bare.write("message", 2)
    assert talker.ignored.wait_for(1) == [("message", 2)]
    assert len(talker.errors) == 0
    assert talker.connection._state == "open"


def test_a_second_answer_changes_nothing(talker: Talker, bare: Bare) -> None:
    future = talker.submit("x")
    _, _, stamp = bare.read()
    bare.write("~wse:response", "first", stamp)
    bare.write("~wse:response", "second", stamp)
    bare.write("~wse:response-err", None, stamp)
    bare.write("end")
    talker.ignored.wait_for(1)
    assert future.result(PATIENCE) == "first"


@pytest.mark.parametrize("payload", [None, 5, "text", [], {}, {"code": None}])
def test_26_a_broken_error_payload_ends_the_call(talker: Talker, bare: Bare, payload: Any) -> None:
    future = talker.submit("x")
    _, _, stamp = bare.read()
    bare.write("~wse:response-err", payload, stamp)
    assert error_of(lambda: future.result(PATIENCE)).code == WSE_ERROR.RP_EXECUTION_FAILED


def test_25_an_answer_on_another_connection_does_not_count(
    opened: contextlib.ExitStack, talker: Talker, bare: Bare
) -> None:
    other = Talker()
    opened.callback(other.end)
    stranger = Bare(other)
    opened.callback(stranger.link.fail)
    future = talker.submit("x")
    _, _, stamp = bare.read()
    stranger.write("~wse:response", "forged", stamp)
    stranger.write("end")
    other.ignored.wait_for(1)
    assert not future.done()
    bare.write("~wse:response", "right", stamp)
    assert future.result(PATIENCE) == "right"


def test_answers_do_not_wait_behind_messages(talker: Talker, bare: Bare) -> None:
    release = threading.Event()
    talker.channel.on("stuck", lambda payload: wait_event(release))
    bare.write("stuck")
    future = talker.submit("x")
    _, _, stamp = bare.read()
    bare.write("~wse:response", "answer", stamp)
    assert future.result(PATIENCE) == "answer"
    release.set()


@pytest.mark.parametrize("data", ["nope", "[]", "[5]", '["~wse:hi",{}]', '["~wse:welcome"]'])
def test_6_a_frame_that_must_not_come_closes_the_link(
    talker: Talker, bare: Bare, data: str
) -> None:
    bare.transport.stream.send(bare.transport.encode(data))
    (error,) = talker.errors.wait_for(1)
    assert error.code in (WSE_ERROR.MESSAGE_PROCESSING_ERROR, WSE_ERROR.PROTOCOL_VIOLATION)
    assert talker.verdicts.wait_for(1) == [(1000, "wse.protocol-error")]


def test_6_text_that_is_not_utf8_is_reported(talker: Talker, bare: Bare) -> None:
    bare.transport.stream.send(b"t\0\0\0\1\xff")
    (error,) = talker.errors.wait_for(1)
    assert error.code == WSE_ERROR.MESSAGE_PROCESSING_ERROR
    assert talker.verdicts.wait_for(1)[0][0] == 1007


# Futures


def test_29_cancel_forgets_the_call(talker: Talker, bare: Bare) -> None:
    future = talker.submit("x")
    _, _, stamp = bare.read()
    assert future.cancel()
    assert future.cancelled()
    assert talker.open_calls == 0
    bare.write("~wse:response", "late", stamp)
    bare.write("end")
    talker.ignored.wait_for(1)
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)


def test_29_a_call_that_has_ended_cannot_be_cancelled(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    far.register("x", lambda payload: "result")
    future = near.submit("x")
    assert future.result(PATIENCE) == "result"
    assert not future.cancel()
    assert not future.cancelled()
    assert future.result(0) == "result"


def test_29_cancel_and_answer_may_come_at_once(pair: tuple[Talker, Talker]) -> None:
    """Whoever is first has it, and nothing breaks."""
    near, far = pair
    far.register("x", lambda payload: payload)
    for number in range(300):
        future = near.submit("x", number)
        cancelled = future.cancel()
        assert future.cancelled() is cancelled
        assert cancelled or future.result(PATIENCE) == number
    assert near.open_calls == 0
    assert near.call("x", "end") == "end"


def test_callbacks_run_on_a_worker(pair: tuple[Talker, Talker]) -> None:
    """Not in the reader's thread, which they could block."""
    near, far = pair
    far.register("x", lambda payload: payload)
    release = threading.Event()
    names = Recorder()

    def called_back(future: Any) -> None:
        names.add(threading.current_thread().name)
        wait_event(release)

    future = near.submit("x", 1)
    future.add_done_callback(called_back)
    assert near.call("x", 2) == 2
    names.wait_for(1)
    assert near.call("x", 3) == 3
    release.set()
    future.add_done_callback(called_back)
    for name in names.wait_for(2):
        assert name.startswith("wse-worker-")


def test_a_callback_that_raises_is_logged(
    pair: tuple[Talker, Talker], caplog: pytest.LogCaptureFixture
) -> None:
    near, far = pair
    far.register("x", lambda payload: payload)
    near.submit("x").add_done_callback(lambda future: 1 / 0)
    wait_until(lambda: "ZeroDivisionError" in caplog.text)


def test_futures_work_with_those_of_the_standard_library(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    release = threading.Event()
    far.register("x", lambda payload: payload)
    far.register("stuck", lambda payload: wait_event(release))
    futures = [near.submit("x", number) for number in range(20)]
    done = concurrent.futures.as_completed(futures, PATIENCE)
    assert sorted(future.result() for future in done) == list(range(20))
    stuck = near.submit("stuck")
    finished, waiting = concurrent.futures.wait([*futures, stuck], timeout=0.01)
    assert (len(finished), waiting) == (20, {stuck})
    stuck.cancel()
    assert concurrent.futures.wait([stuck], timeout=PATIENCE).done == {stuck}
    release.set()


def test_a_result_may_be_waited_for_with_a_time_limit(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    release = threading.Event()
    far.register("stuck", lambda payload: wait_event(release))
    future = near.submit("stuck")
    for wait in (future.result, future.exception):
        with pytest.raises(concurrent.futures.TimeoutError):
            wait(0.01)
    assert near.open_calls == 1
    release.set()
    assert future.exception(PATIENCE) is None


# Links come and go


def test_without_a_link_nothing_can_be_sent(opened: contextlib.ExitStack) -> None:
    made = talk(opened)
    for run in (made.near.send, made.near.call, made.near.submit):
        error = error_of(partial(run, "x"))
        assert isinstance(error, WseConnectionError)
        assert error.code == WSE_ERROR.CONNECTION_NOT_READY
    assert made.near.open_calls == 0


def test_24_the_end_of_the_link_fails_every_open_call(pair: tuple[Talker, Talker]) -> None:
    near, far = pair
    release = threading.Event()
    far.register("stuck", lambda payload: wait_event(release))
    futures = [near.submit("stuck") for _ in range(20)]
    blocked = Thread(lambda: error_of(lambda: near.call("stuck", timeout=None)))
    wait_until(lambda: near.open_calls == 21)
    link = near.connection._link
    assert link is not None
    link.close(4000, "jump")
    for error in [blocked.result(), *[future.exception(PATIENCE) for future in futures]]:
        assert isinstance(error, WseConnectionError)
        assert error.code == WSE_ERROR.RP_DISCONNECT
        assert error.details == {"rp": "stuck", "disconnected": [4000, "jump"]}
        assert "4000" in str(error) and "jump" in str(error)
    assert near.open_calls == 0
    assert error_of(lambda: near.send("x")).code == WSE_ERROR.CONNECTION_NOT_READY
    release.set()


def test_what_is_sent_between_links_goes_out_on_the_next_one(
    opened: contextlib.ExitStack,
) -> None:
    made = talk(opened)
    made.near.suspends = True
    first, _ = made.connect()
    got = Recorder()
    made.far.channel.on("number", got)
    made.far.register("count", lambda payload: len(got))
    first.fail()
    for number in range(100):
        made.near.send("number", number)
    future = made.near.submit("count")
    assert not future.done()
    made.connect()
    made.near.send("number", 100)
    assert got.wait_for(101) == list(range(101))
    assert future.result(PATIENCE) >= 100  # it runs at the same time as what comes later


def test_24_calls_on_the_wire_fail_also_when_another_link_is_expected(
    opened: contextlib.ExitStack,
) -> None:
    made = talk(opened)
    made.near.suspends = True
    first, _ = made.connect()
    release = threading.Event()
    made.far.register("stuck", lambda payload: wait_event(release))
    future = made.near.submit("stuck")
    first.fail()
    assert error_of(lambda: future.result(PATIENCE)).code == WSE_ERROR.RP_DISCONNECT
    release.set()


def test_24_a_call_that_no_link_has_had_waits_also_for_the_link_after_the_next(
    opened: contextlib.ExitStack,
) -> None:
    """Those that a link has had fail with it; this one cannot have been served."""
    made = talk(opened)
    made.near.suspends = True
    first, _ = made.connect()
    served = Recorder("result")
    made.far.register("x", served)
    first.fail()
    future = made.near.submit("x", 1)
    made.near.send("y", 2)
    # An attempt that ends before there is a welcome.
    assert made.near.connection.detach(1006, "", suspend=True).messages == {}
    assert not future.done()
    made.connect()
    assert future.result(PATIENCE) == "result"
    assert served.items == [1]
    assert made.far.ignored.wait_for(1) == [("y", 2)]


def test_a_link_that_is_over_opens_nothing(opened: contextlib.ExitStack) -> None:
    """The end of a link may come between its welcome and here; what waits goes on waiting."""
    made = talk(opened)
    made.near.suspends = True
    first, _ = made.connect()
    first.fail()
    future = made.near.submit("x")
    assert not made.near.connection.attach(first)
    assert not made.near.connection.resume(first, 0)
    assert not future.done()
    made.far.register("x", lambda payload: "result")
    made.connect()
    assert future.result(PATIENCE) == "result"


def test_calls_that_nobody_waits_for_do_not_go_out_later(opened: contextlib.ExitStack) -> None:
    made = talk(opened)
    made.near.suspends = True
    first, _ = made.connect()
    called = Recorder()
    made.far.register("x", called)
    first.fail()
    cancelled = made.near.submit("x", "cancelled")
    late = made.near.submit("x", "late", timeout=0.01)
    kept = made.near.submit("x", "kept")
    cancelled.cancel()
    assert isinstance(late.exception(PATIENCE), WseTimeoutError)
    made.connect()
    kept.result(PATIENCE)
    assert called.items == ["kept"]


def test_the_queue_between_links_is_bounded(opened: contextlib.ExitStack) -> None:
    made = talk(opened, {"max_queue_bytes": 1000})
    made.near.suspends = True
    first, _ = made.connect()
    first.fail()
    count = 0
    with pytest.raises(WseConnectionError) as caught:
        while count < 1000:
            made.near.send("x", "0123456789")
            count += 1
    assert caught.value.code == WSE_ERROR.CONNECTION_NOT_READY
    assert 30 < count < 100
    made.connect()
    made.far.ignored.wait_for(count)
    made.near.send("y")
    assert made.far.ignored.wait_for(count + 1)[-1] == ("y", None)


def test_the_end_of_the_wait_for_a_link_drops_the_queue_and_fails_the_calls(
    opened: contextlib.ExitStack,
) -> None:
    made = talk(opened)
    made.near.suspends = True
    first, _ = made.connect()
    first.fail()
    made.near.send("x")
    future = made.near.submit("x")
    assert made.near.connection.detach(1000, "gone").messages == {"x": 1}
    error = error_of(lambda: future.result(PATIENCE))
    assert error.details["disconnected"] == [1000, "gone"]
    made.connect()
    made.near.send("y")
    assert made.far.ignored.wait_for(1) == [("y", None)]


def test_25_an_answer_is_given_only_on_the_link_of_its_call(opened: contextlib.ExitStack) -> None:
    made = talk(opened)
    made.near.suspends = made.far.suspends = True
    first, _ = made.connect()
    release, entered = threading.Event(), threading.Event()

    def slow(payload: Any) -> str:
        entered.set()
        wait_event(release)
        return "too late"

    made.far.register("slow", slow)
    future = made.near.submit("slow")
    wait_event(entered)
    first.fail()
    assert error_of(lambda: future.result(PATIENCE)).code == WSE_ERROR.RP_DISCONNECT
    made.far.verdicts.wait_for(1)
    made.connect()
    release.set()
    made.far.register("quick", lambda payload: "quick")
    assert made.near.call("quick") == "quick"
    assert len(made.near.ignored) == len(made.near.errors) == 0


def test_18_what_an_old_link_brought_is_handled_before_what_the_new_one_brings(
    opened: contextlib.ExitStack,
) -> None:
    made = talk(opened)
    made.near.suspends = made.far.suspends = True
    first, _ = made.connect()
    release, got = threading.Event(), Recorder()
    made.far.channel.on("stuck", lambda payload: wait_event(release))
    made.far.channel.on("number", got)
    made.near.send("stuck")
    made.near.send("number", 1)
    made.far.register("sync", lambda payload: None)
    waiting = made.near.submit("sync")
    wait_until(lambda: made.far.connection.lane._bytes > 2 * 256)
    first.fail()
    assert waiting.exception(PATIENCE) is not None
    made.far.verdicts.wait_for(1)
    made.connect()
    made.near.send("number", 2)
    assert len(got) == 0
    release.set()
    assert got.wait_for(2) == [1, 2]


# Pressure


def test_a_client_waits_for_room_and_loses_nothing(opened: contextlib.ExitStack) -> None:
    made = talk(opened, {"waits_for_room": True, "max_queue_bytes": 10_000}, capacity=1000)
    _, far_link = made.connect(far_reads=False)
    got = Recorder()
    made.far.channel.on("x", lambda payload: got.add(payload[0]))
    sent = Recorder()

    def send_all(sender: int) -> None:
        for number in range(50):
            made.near.send("x", [[sender, number], "x" * 1000])
            sent.add(1)

    senders = [Thread(partial(send_all, sender)) for sender in range(2)]
    sent.wait_for(5)
    threading.Event().wait(A_MOMENT)
    assert len(sent) < 20
    made.far.read(far_link)
    for thread in senders:
        thread.result()
    items = got.wait_for(100)
    for sender in range(2):
        assert [each for each in items if each[0] == sender] == [[sender, n] for n in range(50)]


def test_a_client_that_waits_for_room_is_woken_by_the_end(opened: contextlib.ExitStack) -> None:
    made = talk(opened, {"waits_for_room": True, "max_queue_bytes": 1000}, capacity=1000)
    link, _ = made.connect(far_reads=False)
    made.near.send("x", "x" * 5000)
    sending = Thread(lambda: error_of(lambda: made.near.send("x", "x" * 5000)))
    calling = Thread(lambda: error_of(lambda: made.near.call("x", "x" * 5000)))
    sending.join(A_MOMENT)
    assert sending.is_alive() and calling.is_alive()
    link.fail()
    assert sending.result().code == WSE_ERROR.CONNECTION_NOT_READY
    assert isinstance(calling.result(), WseConnectionError)


def test_23_a_call_that_waits_for_room_has_its_deadline_too(opened: contextlib.ExitStack) -> None:
    made = talk(opened, {"waits_for_room": True, "max_queue_bytes": 1000}, capacity=1000)
    made.connect(far_reads=False)
    made.near.send("x", "x" * 5000)
    error = error_of(lambda: made.near.call("x", "x" * 5000, timeout=0.01))
    assert isinstance(error, WseTimeoutError)
    assert error.code == WSE_ERROR.RP_TIMEOUT
    assert made.near.open_calls == 0


def test_42_a_server_never_waits_and_gives_up(opened: contextlib.ExitStack) -> None:
    made = talk(opened, {"max_queue_bytes": 10_000}, capacity=1000)
    made.connect(far_reads=False)
    with pytest.raises(WseConnectionError):
        for _ in range(1000):
            made.near.send("x", "x" * 1000)
    assert made.near.verdicts.wait_for(1) == [(1013, "wse.slow-consumer")]


def test_a_full_lane_stops_the_reader_until_it_is_handled(opened: contextlib.ExitStack) -> None:
    made = talk(opened, far={"max_queue_bytes": 10_000})
    _, far_link = made.connect()
    release, got = threading.Event(), Recorder()

    def slow(payload: Any) -> None:
        wait_event(release)
        got.add(payload[0])

    made.far.channel.on("x", slow)
    for number in range(100):
        made.near.send("x", [number, "x" * 1000])
    wait_until(lambda: far_link.paused)
    assert made.far.connection.lane._bytes < 12_000
    release.set()
    assert got.wait_for(100) == list(range(100))
    wait_until(lambda: not far_link.paused)
    assert made.far.connection.lane.has_room


def test_a_full_lane_does_not_stop_the_answer_that_its_handler_awaits(
    opened: contextlib.ExitStack,
) -> None:
    made = talk(opened, far={"max_queue_bytes": 10_000}, capacity=1000)
    made.connect()
    made.near.register("ask", lambda payload: payload)
    got = Recorder()
    made.far.channel.on("x", lambda payload: got.add(made.far.call("ask", payload[0])))
    for number in range(15):  # more than the bound, less than twice of it
        made.near.send("x", [number, "x" * 500])
    assert got.wait_for(15) == list(range(15))


def test_one_who_sends_twice_the_bound_to_somebody_who_awaits_answers_is_given_up(
    opened: contextlib.ExitStack,
) -> None:
    made = talk(opened, far={"max_queue_bytes": 10_000})
    made.connect()
    release = threading.Event()
    made.near.register("never", lambda payload: wait_event(release))
    made.far.channel.on("x", lambda payload: wait_event(release))
    future = made.far.submit("never", timeout=None)
    with contextlib.suppress(WseConnectionError):
        for _ in range(100):
            made.near.send("x", "x" * 1000)
    assert made.far.verdicts.wait_for(1) == [(1013, "wse.slow-consumer")]
    assert error_of(lambda: future.result(PATIENCE)).code == WSE_ERROR.RP_DISCONNECT
    release.set()
