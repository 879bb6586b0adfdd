"""The browser's client against our server: logins, messages, calls, and its life."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.support import ScriptError
from tests.conftest import MakeRawServer, MakeServer
from tests.faults import FaultProxy
from tests.support import (
    RawPeer,
    Recorder,
    connection_of,
    payloads,
    story,
    wait_event,
    wait_until,
)
from wse_sync import WSE_ERROR, AuthRequest, WseConnection, WseError

QUICK = {"reconnect": True, "backoff": {"initial": 10, "factor": 1, "maximum": 10}}
NEVER = {"reconnect": True, "backoff": {"initial": 3_600_000, "maximum": 3_600_000}}
CONNECT = "make(a[0], a[1]); return client.connect('ann')"


def refused(attempt: Any) -> ScriptError:
    """The error of a script that must fail."""
    with pytest.raises(ScriptError) as caught:
        attempt()
    return caught.value


# Logins


def test_2_3_4_the_welcome_comes_from_connect_and_from_ready_after_connected(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add((auth.identity, auth.meta))
        auth.accept("ann", {"hello": "you"})

    page = open_page(make_site(identify))
    script = "make('/ws'); return client.connect({ token: 't' }, { device: 'tab' })"
    assert page.run(script) == {"hello": "you"}
    assert asked.items == [({"token": "t"}, {"device": "tab"})]
    assert page.run("return [client.cid, client.status]") == ["ann", "READY"]
    assert page.run("return log") == [
        ["updated", "CONNECTING"],
        ["connected"],
        ["updated", "READY"],
        ["ready", {"hello": "you"}],
    ]
    assert page.run("return client.url") == page.run("return `ws://${location.host}/ws`")


@pytest.mark.parametrize("options", [{}, QUICK], ids=["once", "reconnect"])
def test_5_a_refusal_is_final(
    make_site: MakeServer, open_page: OpenPage, options: dict[str, Any]
) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add(auth.identity)
        auth.refuse()

    page = open_page(make_site(identify))
    error = refused(lambda: page.run(CONNECT, "/ws", options))
    assert (error.name, error.code) == ("WseError", WSE_ERROR.NOT_AUTHORIZED)
    page.wait_for("client.status === 'OFFLINE'")
    assert page.log("closed") == [[1000, "wse.not-authorized"]]
    assert page.log("ready") == []
    assert asked.items == ["ann"]


@pytest.mark.parametrize(
    ("solver", "solution"),
    [("q => q * 2", 42), ("async q => q * 2", 42), ("() => null", None), ("() => {}", None)],
)
def test_8_a_quest_is_answered(
    make_site: MakeServer, open_page: OpenPage, solver: str, solution: Any
) -> None:
    answers = Recorder()

    def identify(auth: AuthRequest) -> None:
        assert auth.challenge is not None
        answers.add(auth.challenge.response)
        auth.accept("ann")

    server = make_site(identify)
    server.use_challenge(lambda auth: 21)
    page = open_page(server)
    page.run(f"make('/ws'); client.challenge({solver}); return client.connect()")
    assert answers.items == [solution]


@pytest.mark.parametrize("options", [{}, QUICK], ids=["once", "reconnect"])
@pytest.mark.parametrize("solver", ["() => { throw new Error('no') }", "async () => fail"])
def test_8_a_solver_that_throws_ends_the_attempt(
    make_site: MakeServer, open_page: OpenPage, options: Any, solver: str
) -> None:
    server = make_site()
    server.use_challenge(lambda auth: "quest")
    page = open_page(server)
    script = f"make('/ws', a[0]); client.challenge({solver}); return client.connect()"
    error = refused(lambda: page.run(script, options))
    assert error.name in ("Error", "ReferenceError")
    page.wait_for("client.status === 'OFFLINE'")
    assert [said["name"] for said in page.log("error")] == [error.name]


def test_8_without_a_solver_a_quest_ends_the_attempt(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    server.use_challenge(lambda auth: "quest")
    page = open_page(server)
    assert refused(lambda: page.run(CONNECT, "/ws")).code == WSE_ERROR.INVALID_CRA_HANDLER
    error = refused(lambda: page.run("make('/ws'); client.challenge('no function')"))
    assert error.code == WSE_ERROR.INVALID_CRA_HANDLER


def test_9_a_decision_may_come_late_and_the_solver_may_take_its_time(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    requests: Recorder = Recorder()
    server = make_site(requests)
    server.use_challenge(lambda auth: "quest")
    page = open_page(server)
    connecting = page.start("""
        make("/ws")
        client.challenge((quest) => new Promise((resolve) => (window.solve = resolve)))
        return client.connect()
    """)
    page.wait_for("window.solve")
    page.run("solve('solution')")
    (auth,) = requests.wait_for(1)
    assert not connecting.is_done
    auth.accept("ann", "late")
    assert connecting.result() == "late"


def test_an_identity_may_be_a_function_which_is_called_before_each_attempt(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add(auth.identity)
        auth.accept("ann")

    server = make_site(identify, origins="*")
    page = open_page(server, "open")
    with FaultProxy(server.url) as proxy:
        page.run(
            "let n = 0; make(a[0], a[1]); await client.connect(async () => `token ${++n}`)",
            f"{proxy.url}ws",
            QUICK,
        )
        proxy.cut(reset=True)
        assert asked.wait_for(2) == ["token 1", "token 2"]


def test_an_identity_that_throws_ends_the_first_attempt_and_no_later_one(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site(origins="*")
    page = open_page(server, "open")
    with FaultProxy(server.url) as proxy:
        url = f"{proxy.url}ws"
        script = "make(...a); return client.connect(() => { throw new Error('no token') })"
        assert refused(lambda: page.run(script, url, QUICK)).message == "no token"
        assert page.run("return client.status") == "OFFLINE"
        page.run(
            """
            const tokens = ["ann", null, null, "ann"]
            make(...a)
            await client.connect(async () => tokens.shift() ?? Promise.reject(new Error("later")))
            """,
            url,
            QUICK,
        )
        proxy.cut()
        page.wait_for("log.filter(([name]) => name === 'ready').length === 2")
        assert [error["message"] for error in page.log("error")][1:] == ["later", "later"]


def test_an_identity_that_cannot_be_packed_ends_the_attempt(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    page = open_page(make_site())
    error = refused(lambda: page.run("make('/ws'); return client.connect(NaN)"))
    assert error.code == WSE_ERROR.RP_SEND_FAILED


# Where to


@pytest.mark.parametrize(
    "url",
    [
        "'/ws'",
        "'../ws'",
        "'/ws?next=http'",
        "new URL('/ws', location)",
        "`http://${location.host}/ws`",
        "`ws://${location.host}/ws`",
    ],
)
def test_a_url_may_be_relative_or_that_of_a_page(
    make_site: MakeServer, open_page: OpenPage, url: str
) -> None:
    page = open_page(make_site())
    page.run(f"make({url}); await client.connect('ann')")
    query = "?next=http" if "next" in url else ""
    assert page.run("return client.url") == page.run("return `ws://${location.host}/ws`") + query


def test_no_link_is_an_error_of_its_own(make_site: MakeServer, open_page: OpenPage) -> None:
    page = open_page(make_site())
    error = refused(lambda: page.run(CONNECT, "/nowhere"))
    assert error.code == WSE_ERROR.WS_CLIENT_ERROR
    assert page.log("closed") == []
    assert page.log("updated") == ["CONNECTING", "OFFLINE"]


def test_a_server_that_does_not_answer_is_given_up(
    make_site: MakeServer, open_page: OpenPage, make_raw_server: MakeRawServer
) -> None:
    release = threading.Event()
    raw = make_raw_server(lambda peer: wait_event(release), accept=False)
    page = open_page(make_site(), "open")
    options = {"connectTimeout": 50}
    assert refused(lambda: page.run(CONNECT, raw.url, options)).code == WSE_ERROR.WS_CLIENT_ERROR
    release.set()


def test_a_server_that_falls_silent_before_the_welcome_is_given_up(
    make_site: MakeServer, open_page: OpenPage, make_raw_server: MakeRawServer
) -> None:
    def script(peer: RawPeer) -> None:
        peer.recv_frame()
        peer.recv()

    raw = make_raw_server(script)
    page = open_page(make_site(), "open")
    options = {"pingTimeout": 50}
    error = refused(lambda: page.run(CONNECT, raw.url, options))
    assert error.code == WSE_ERROR.CONNECTION_CLOSED
    assert page.log("closed") == [[1006, ""]]


def test_44_a_page_of_another_origin_is_refused(
    make_site: MakeServer, open_page: OpenPage, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = make_site(), make_site()
    page = open_page(here, "open")
    error = refused(lambda: page.run(CONNECT, there.url))
    assert error.code == WSE_ERROR.WS_CLIENT_ERROR
    assert any("403" in entry["message"] for entry in page.console())
    (record,) = [item for item in caplog.records if item.levelno >= logging.WARNING]
    assert f"refused a page from 'http://127.0.0.1:{here.port}'" in record.getMessage()
    page.run(CONNECT, here.url)


def test_a_page_of_an_origin_that_is_named_may_import_and_connect(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    here = make_site()
    there = make_site(origins=[f"http://127.0.0.1:{here.port}"])
    page = open_page(here, "foreign")
    url = f"http://127.0.0.1:{there.port}/ws"
    script = """
        const { WseClient } = await import(a[0] + "/wse.js")
        return new WseClient(a[0]).connect("ann")
    """
    assert page.run(script, url) == {"hello": "ann"}


def test_a_worker_may_have_a_client(make_site: MakeServer, open_page: OpenPage) -> None:
    page = open_page(make_site())
    assert page.run("""
        const worker = new Worker("worker.js", { type: "module" })
        const { data } = await new Promise((resolve) => (worker.onmessage = resolve))
        worker.terminate()
        return data
    """) == {"hello": "ann"}


def test_the_policy_of_the_pages_is_in_force(make_site: MakeServer, open_page: OpenPage) -> None:
    here, there = make_site(), make_site(origins="*")
    page = open_page(here)
    page.run("""
        const script = document.createElement("script")
        script.text = "window.x = 1"
        document.head.append(script)
    """)
    assert page.run("return typeof x") == "undefined"
    assert refused(lambda: page.run(CONNECT, there.url)).code == WSE_ERROR.WS_CLIENT_ERROR


# Messages


def test_16_17_messages_arrive_in_order_and_others_are_ignored(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    numbers = payloads(server)
    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("""
        window.heard = []
        client.channel.on("number", (payload) => heard.push(payload))
        for (let n = 0; n < 100; n++) client.send("number", n)
    """)
    assert numbers.wait_for(100) == list(range(100))
    conn = connection_of(server)
    for number in range(100):
        conn.send("number", number)
    conn.send("other", {"x": None})
    conn.send("empty")
    page.wait_for("log.filter(([name]) => name === 'ignored').length === 2")
    assert page.run("return heard") == list(range(100))
    assert page.log("ignored") == [["other", {"x": None}], ["empty", None]]


def test_18_messages_wait_for_async_handlers_and_calls_for_the_messages_before_them(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("""
        window.story = []
        window.open = []
        client.channel.on("slow", async (payload) => {
            story.push(`${payload} began`)
            await new Promise((resolve) => open.push(resolve))
            story.push(`${payload} ended`)
        })
        client.register("now", (payload) => story.push(`call ${payload}`))
    """)
    conn = connection_of(server)
    conn.send("slow", 1)
    before = conn.submit("now", 1)
    conn.send("slow", 2)
    after = conn.submit("now", 2)
    conn.send("slow", 3)
    for number in range(1, 4):
        page.wait_for(f"open.length === {number}")
        page.run("open.at(-1)()")
    page.wait_for("story.includes('3 ended')")
    assert before.result() and after.result()
    assert page.run("return story") == [
        "1 began", "1 ended", "call 1", "2 began", "2 ended", "call 2", "3 began", "3 ended",
    ]  # fmt: skip


def test_18_a_call_that_was_open_before_lets_no_other_pass(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    release, entered = threading.Event(), threading.Event()

    @server.register("wait")
    def wait(conn: WseConnection, payload: Any) -> None:
        entered.set()
        wait_event(release)

    page = open_page(server)
    page.run(CONNECT, "/ws")
    waiting = page.start("return client.call('wait')")
    wait_event(entered)
    page.run("""
        window.story = []
        client.channel.on("slow", async () => {
            await new Promise((resolve) => (window.proceed = resolve))
            story.push("message")
        })
        client.register("now", () => story.push("call"))
    """)
    conn = connection_of(server)
    conn.send("slow")
    future = conn.submit("now")
    page.wait_for("window.proceed")
    # It has arrived when an answer that was sent behind it is here.
    release.set()
    waiting.result()
    assert page.run("return story") == []
    page.run("proceed()")
    future.result(10)
    assert page.run("return story") == ["message", "call"]


def test_18_calls_run_beside_each_other_and_beside_later_messages(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("""
        window.open = []
        client.register("wait", (payload) => new Promise((r) => open.push(() => r(payload))))
        client.channel.on("message", () => log.push(["message"]))
    """)
    conn = connection_of(server)
    futures = [conn.submit("wait", number) for number in range(3)]
    conn.send("message")
    page.wait_for("log.some(([name]) => name === 'message') && open.length === 3")
    page.run("for (const finish of open.reverse()) finish()")
    assert [future.result() for future in futures] == [0, 1, 2]


@pytest.mark.parametrize("depth", [1, 10])
def test_19_a_handler_that_awaits_its_call_may_be_called_back(
    make_site: MakeServer, open_page: OpenPage, depth: int
) -> None:
    server = make_site()

    @server.register("down")
    def down(conn: WseConnection, left: int) -> Any:
        return conn.call("up", left - 1) if left else "ground"

    done = payloads(server, "done")
    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("""
        client.register("up", (left) => (left ? client.call("down", left - 1) : "ground"))
        client.channel.on("go", async (depth) => {
            await null
            client.send("done", await client.call("down", depth))
        })
    """)
    conn = connection_of(server)
    conn.send("go", depth)
    assert done.wait_for(1) == ["ground"]


def test_19_a_call_that_arrived_before_the_handler_called_may_pass_too(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    answered = threading.Event()

    @server.register("ask")
    def ask(conn: WseConnection, payload: Any) -> None:
        wait_event(answered)

    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("""
        client.register("early", () => "answer")
        client.channel.on("go", async () => {
            await new Promise((resolve) => (window.proceed = resolve))
            await client.call("ask")
            log.push(["done"])
        })
    """)
    conn = connection_of(server)
    conn.send("go")
    page.wait_for("window.proceed")
    early = conn.submit("early")
    conn.send("ignored")
    page.run("proceed()")
    assert early.result(10) == "answer"
    assert page.log("ignored") == []
    answered.set()
    page.wait_for("log.some(([name]) => name === 'done')")
    page.wait_for("log.some(([name]) => name === 'ignored')")


def test_20_a_handler_that_throws_is_reported_and_stops_no_other(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("""
        client.when.error(console.error)
        client.channel.on("message", () => { throw new Error("sync") })
        client.channel.on("message", async () => { throw new Error("async") })
        client.channel.on("message", (payload) => log.push(["message", payload]))
        client.when.ignored(() => { throw new Error("signal") })
        client.when.ignored(async () => { throw new Error("async signal") })
        client.when.error(() => { throw new Error("of the error signal") })
    """)
    conn = connection_of(server)
    for payload in (1, 2):
        conn.send("message", payload)
    conn.send("other")
    page.wait_for("log.filter(([name]) => name === 'error').length === 6")
    assert page.log("message") == [1, 2]
    texts = [error["message"] for error in page.log("error")]
    assert texts == ["sync", "async"] * 2 + ["signal", "async signal"]
    assert "of the error signal" in str(page.console())
    assert page.run("return client.status") == "READY"


def test_what_handlers_throw_is_on_the_console_unless_that_is_unbound(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    page = open_page(server)
    page.run("""
        window.client = new wse.WseClient("/ws")
        client.channel.on("message", () => { throw new Error("a fault of the page") })
        await client.connect("ann")
    """)
    connection_of(server).send("message")
    wait_until(lambda: "a fault of the page" in str(page.console()))


def test_handlers_are_bound_once_or_taken_off(make_site: MakeServer, open_page: OpenPage) -> None:
    server = make_site()
    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("""
        const say = (name) => (payload) => log.push([name, payload])
        const { channel } = client
        const [once, off, onceOff] = ["once", "off", "once off"].map(say)
        channel.once("message", once)
        if (channel.on("message", off) !== off) throw new Error("on() returns the handler")
        channel.once("message", onceOff)
        channel.off("message", onceOff)
        channel.on("message", say("on"))
        window.takeOff = () => channel.off("message", off)
        channel.off("message", () => 0)
        channel.off("unknown", () => 0)
    """)
    conn = connection_of(server)
    conn.send("message", 1)
    page.wait_for("log.some(([name]) => name === 'on')")
    page.run("takeOff()")
    conn.send("message", 2)
    page.wait_for("log.filter(([name]) => name === 'on').length === 2")
    said = [entry for entry in page.run("return log") if entry[0] in ("on", "off", "once")]
    assert said == [["once", 1], ["off", 1], ["on", 1], ["on", 2]]
    assert page.log("once off") == []


def test_signals_are_taken_off_and_late_handlers_get_the_latest_values(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    page = open_page(make_site())
    page.run(CONNECT, "/ws")
    assert page.run("""
        const heard = []
        const handler = (...values) => heard.push(values)
        for (const signal of Object.values(client.when))
            if (signal(handler) !== handler) throw new Error("a signal returns the handler")
        const late = heard.splice(0)
        for (const signal of Object.values(client.when)) signal.off(handler)
        await client.disconnect()
        return [late, heard]
    """) == [[[{"hello": "ann"}], ["READY"]], []]


def test_30_the_status_is_set_before_updated_fires(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    page = open_page(make_site())
    assert page.run("""
        const seen = []
        make("/ws")
        seen.push(client.status)
        client.when.updated((status) => seen.push([status, client.status]))
        await client.connect("ann")
        await client.disconnect()
        return seen
    """) == ["IDLE", ["CONNECTING"] * 2, ["READY"] * 2, ["OFFLINE"] * 2]


def test_a_signal_handler_may_do_anything_with_its_client(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    heard = story(server, "connected", "disconnected")
    page = open_page(server)
    page.run("""
        make("/ws")
        client.when.updated((status) => { if (status === "READY") client.disconnect("enough") })
        await client.connect("ann")
        client.when.updated.off
    """)
    assert heard.wait_for(2) == ["connected", ("disconnected", 1000, "enough")]
    page.wait_for("client.status === 'OFFLINE'")


# Calls


def test_22_results_and_errors_come_back(make_site: MakeServer, open_page: OpenPage) -> None:
    server = make_site()
    server.register("echo", lambda conn, payload: payload)
    server.register("divide", lambda conn, payload: 1 / payload)

    @server.register("busy")
    def busy(conn: WseConnection, payload: Any) -> None:
        raise WseError("my-code", {"fun": 1}, "come back later")

    page = open_page(server)
    page.run(CONNECT, "/ws")
    value = {"a": [1, 2.5, None, True, "é☃"]}
    assert page.run("return client.call('echo', a[0])", value) == value
    assert page.run("return client.call('echo')") is None
    errors = [
        refused(lambda name=name: page.run("return client.call(a[0], 0)", name))
        for name in ("divide", "busy", "unknown")
    ]
    assert [error.code for error in errors] == [
        WSE_ERROR.RP_EXECUTION_FAILED,
        "my-code",
        WSE_ERROR.RP_NOT_REGISTERED,
    ]
    assert [error.name for error in errors] == ["WseError"] * 3
    divide, busy_error, unknown = errors
    assert divide.message == "division by zero"
    assert divide.details["rp"] == "divide"
    assert divide.details["origin"] == {"name": "ZeroDivisionError", "message": "division by zero"}
    assert busy_error.details == {"fun": 1, "rp": "busy"}
    assert busy_error.message == "come back later"
    assert unknown.details == {"rp": "unknown"}


def test_22_procedures_of_the_page_are_called(make_site: MakeServer, open_page: OpenPage) -> None:
    server = make_site()
    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("""
        client.register("echo", (payload) => payload)
        client.register("later", async (payload) => payload * 2)
        client.register("nothing", () => {})
        client.register("fail", () => { throw new RangeError("too far") })
        const busy = new wse.WseError("my-code", { fun: 1 }, "no")
        client.register("reject", () => Promise.reject(busy))
        client.register("odd", () => { throw "text" })
        client.register("infinite", () => 1 / 0)
        client.register("circle", () => {
            const details = {}
            details.self = details
            throw new wse.WseError("my-code", details)
        })
    """)
    conn = connection_of(server)
    assert conn.call("echo", {"x": [1, None]}) == {"x": [1, None]}
    assert conn.call("later", 21) == 42
    assert conn.call("nothing") is None
    errors: dict[str, WseError] = {}
    for name in ("fail", "reject", "odd", "infinite", "circle", "unknown"):
        with pytest.raises(WseError) as caught:
            conn.call(name)
        errors[name] = caught.value
    assert errors["fail"].code == WSE_ERROR.RP_EXECUTION_FAILED
    assert errors["fail"].details == {
        "rp": "fail",
        "origin": {"name": "RangeError", "message": "too far"},
    }
    assert (errors["reject"].code, errors["reject"].message) == ("my-code", "no")
    assert errors["reject"].details == {"fun": 1, "rp": "reject"}
    assert errors["odd"].message == "text"
    assert errors["infinite"].code == WSE_ERROR.RP_EXECUTION_FAILED
    assert "Infinity" in str(errors["infinite"])
    assert (errors["circle"].code, errors["circle"].details) == ("my-code", {"rp": "circle"})
    assert errors["unknown"].code == WSE_ERROR.RP_NOT_REGISTERED
    assert [error["message"] for error in page.log("error")[:2]] == ["too far", "no"]
    assert len(page.log("error")) == len(errors)
    assert page.run("return client.status") == "READY"


@pytest.mark.parametrize(
    "payload",
    [
        "NaN",
        "Infinity",
        "[{ x: -Infinity }]",
        "10n",
        "window",
        "{ toJSON() { throw new Error('no') } }",
    ],
)
def test_26_what_has_no_form_in_json_is_refused_and_nothing_is_sent(
    make_site: MakeServer, open_page: OpenPage, payload: str
) -> None:
    server = make_site()
    server.register("echo", lambda conn, payload: payload)
    numbers = payloads(server)
    page = open_page(server)
    page.run(CONNECT, "/ws")
    for attempt in ("client.send('number', {0})", "return client.call('echo', {0})"):
        error = refused(lambda: page.run(attempt.format(payload)))  # noqa: B023
        assert (error.name, error.code) == ("WseError", WSE_ERROR.RP_SEND_FAILED)
    page.run("client.send('number', 1)")
    assert numbers.wait_for(1) == [1]


def test_26_a_number_that_is_none_is_named(make_site: MakeServer, open_page: OpenPage) -> None:
    page = open_page(make_site())
    page.run(CONNECT, "/ws")
    error = refused(lambda: page.run("client.send('number', { speed: 0 / 0 })"))
    assert "speed is NaN" in error.message


@pytest.mark.parametrize("type", ["''", "5", "undefined", "'~wse:hi'", "'~wse:ack'"])
def test_a_name_that_is_none_or_ours_is_refused(
    make_site: MakeServer, open_page: OpenPage, type: str
) -> None:
    page = open_page(make_site())
    page.run(CONNECT, "/ws")
    for attempt in ("client.send({0})", "return client.call({0})"):
        error = refused(lambda: page.run(attempt.format(type)))  # noqa: B023
        assert error.code == WSE_ERROR.RP_SEND_FAILED


def test_23_a_call_that_takes_too_long_ends_and_its_late_answer_means_nothing(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    release = threading.Event()
    server.register("wait", lambda conn, payload: wait_event(release))
    server.register("echo", lambda conn, payload: payload)
    page = open_page(server)
    page.run(CONNECT, "/ws", {"callTimeout": 50})
    assert refused(lambda: page.run("return client.call('wait')")).code == WSE_ERROR.RP_TIMEOUT
    slow = [
        page.start(f"return client.call('wait', null, {{ timeout: {timeout} }})")
        for timeout in ("null", "Infinity", "30 * 24 * 3600 * 1000")
    ]
    error = refused(lambda: page.run("return client.call('wait', null, { timeout: 10 })"))
    assert (error.code, error.details) == (WSE_ERROR.RP_TIMEOUT, {"rp": "wait"})
    release.set()
    assert [call.result() for call in slow] == [None] * 3
    assert page.run("return client.call('echo', 1, { timeout: null })") == 1
    assert page.log("error") == page.log("ignored") == []


def test_24_the_loss_of_the_link_fails_every_open_call(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    release = threading.Event()
    entered = Recorder()

    @server.register("wait")
    def wait(conn: WseConnection, payload: Any) -> None:
        entered.add(payload)
        wait_event(release)

    page = open_page(server)
    page.run(CONNECT, "/ws")
    calls = [page.start("return client.call('wait', a[0])", number) for number in range(3)]
    entered.wait_for(3)
    server.drop_client("ann", "enough")
    for call in calls:
        error = refused(call.result)
        assert error.code == WSE_ERROR.RP_DISCONNECT
        assert error.details == {"rp": "wait", "disconnected": [1000, "enough"]}
    release.set()


def test_28_registering_twice_and_unregistering_the_unknown_raise(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    page = open_page(make_site())
    page.run("make('/ws'); client.register('name', () => 1)")
    taken = refused(lambda: page.run("client.register('name', () => 2)"))
    assert (taken.code, taken.details) == (WSE_ERROR.RP_ALREADY_REGISTERED, {"rp": "name"})
    page.run("client.unregister('name')")
    unknown = refused(lambda: page.run("client.unregister('name')"))
    assert (unknown.code, unknown.details) == (WSE_ERROR.RP_NOT_REGISTERED, {"rp": "name"})
    page.run("client.register('name', () => 2)")


def test_29_a_signal_forgets_the_call(make_site: MakeServer, open_page: OpenPage) -> None:
    server = make_site()
    release = threading.Event()
    server.register("wait", lambda conn, payload: wait_event(release))
    server.register("echo", lambda conn, payload: payload)
    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("window.controller = new AbortController()")
    call = page.start("return client.call('wait', null, { signal: controller.signal })")
    assert not call.is_done
    page.run("controller.abort()")
    assert refused(call.result).name == "AbortError"
    aborted = "return client.call('wait', null, { signal: controller.signal })"
    assert refused(lambda: page.run(aborted)).name == "AbortError"
    release.set()
    echoed = "return client.call('echo', 1, { signal: new AbortController().signal })"
    assert page.run(echoed) == 1
    assert page.log("error") == []


def test_a_call_leaves_no_listener_and_no_timer(make_site: MakeServer, open_page: OpenPage) -> None:
    server = make_site()
    server.register("echo", lambda conn, payload: payload)
    page = open_page(server)
    page.run(CONNECT, "/ws")
    assert page.run("""
        const { signal } = new AbortController()
        const timers = new Set(), bound = new Set()
        const { setTimeout, clearTimeout } = window
        window.setTimeout = (run, ms = 0) => {
            const id = setTimeout(() => (timers.delete(id), run()), ms)
            if (ms > 5000) timers.add(id)
            return id
        }
        window.clearTimeout = (id) => (timers.delete(id), clearTimeout(id))
        signal.addEventListener = (type, listener, options) => {
            bound.add(listener)
            options?.signal?.addEventListener("abort", () => bound.delete(listener))
        }
        signal.removeEventListener = (type, listener) => bound.delete(listener)
        const before = timers.size
        const answer = client.call("echo", 1, { signal })
        const during = [timers.size > before, bound.size]
        await answer
        return [during, timers.size - before, bound.size]
    """) == [[True, 1], 0, 0]
