"""Children of forks, made in handlers and in the main thread: nothing that they do is noticed."""

from __future__ import annotations

import os

import pytest

from tests.conftest import Connect, MakeServer
from tests.programs import SAY_INSIDE, Program
from tests.support import Recorder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

PRELUDE = """
import gc
import multiprocessing
import os
import signal
import sys
import warnings

from wse_sync import WseClient, WseError, WseServer, procedures

warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # since Python 3.12


def fork(work):
    # Has a child do this, and waits for it; its exit status.
    child = os.fork()
    if not child:
        signal.alarm(30)  # or one that hangs would stay
        work()
        print("done", flush=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def multiprocess(work):
    child = multiprocessing.get_context("fork").Process(target=lambda: (work(), print("done")))
    child.start()
    child.join()
    return child.exitcode


def raised(function, *arguments):
    try:
        function(*arguments)
    except WseError as error:
        return error
"""

SERVING = (
    PRELUDE
    + SAY_INSIDE
    + """
thread, make, work = sys.argv[1:]
if thread == "reader":
    procedures.QUICK_RUNS = 0  # every call is quick enough
connections = []
server = WseServer(lambda auth: auth.accept(auth.identity), port=0)
server.when.connected(connections.append)


@server.register("fork")
def handle(conn, payload):
    del conn
    return globals()[make](lambda: exec(work, globals()))


@server.register("double")
def double(conn, number):
    return 2 * number


print(server.start().url)
say_inside("serve_forever", "wait")
server.serve_forever()
"""
)
# What a child of a server does, and what it prints.
SERVERS_CHILDREN = {
    "nothing": ("pass", []),
    "says goodbye": (
        "connections[0].drop(); server.drop_client('ann'); server.broadcast('news');"
        "server.close(); print(connections[0].state, dict(server.clients))",
        ["closed {}"],
    ),
    "throws all away": ("del server; connections.clear(); gc.collect()", []),
    "talks": (
        "print(raised(connections[0].send, 'news').code);"
        "print(raised(connections[0].call, 'echo').code)",
        ["wse.client.not-ready"] * 2,
    ),
    "serves on its own": (
        """
with server, WseClient(server.url) as client:
    client.connect("bob")
    print(client.call("double", 3), *server.clients)
""",
        ["6 bob"],
    ),
}


@pytest.mark.parametrize(("thread", "make"), [("worker", "multiprocess"), ("reader", "fork")])
@pytest.mark.parametrize("child", SERVERS_CHILDREN)
def test_what_a_child_of_a_server_does_nobody_notices(
    connect: Connect, thread: str, make: str, child: str
) -> None:
    work, printed = SERVERS_CHILDREN[child]
    with Program(SERVING, thread, make, work) as program:
        client = connect(program.line())
        assert program.line() == "inside"
        closed, news = Recorder(), Recorder()
        client.when.closed(closed)
        client.channel.on("news", news)
        for _ in range(2):
            assert client.call("fork") == 0
        assert [program.line() for _ in range(2 * (len(printed) + 1))] == [*printed, "done"] * 2
        assert client.call("double", 2) == 4
        assert (closed.items, news.items) == ([], [])
        program.terminate()
        assert program.end() == (0, [], [])


@pytest.mark.parametrize("thread", ["worker", "reader"])
@pytest.mark.parametrize("end", ["return", "sys.exit()"])
def test_a_child_that_comes_back_from_a_handler_ends(
    connect: Connect, thread: str, end: str
) -> None:
    """Its parent has the answer, and it has nothing left to do."""
    script = SERVING.replace("    work()\n", f"    {end}\n")
    with Program(script, thread, "fork", "") as program:
        client = connect(program.line())
        assert program.line() == "inside"
        assert client.call("fork") == 0
        assert client.call("double", 2) == 4
        program.terminate()
        assert program.end()[:2] == (0, [])


CALLING = (
    PRELUDE
    + """
url, where, make, work = sys.argv[1:]
client = WseClient(url)
client.connect("ann")


def make_child(payload=None):
    return globals()[make](lambda: exec(work, globals()))


if where == "handler":
    client.register("fork", make_child)
    print(client.call("have it fork"))
else:
    print(make_child())
print(client.status.value, client.call("double", 2))
client.disconnect()
"""
)
CLIENTS_CHILDREN = {
    "nothing": ("pass", []),
    "says goodbye": (
        "client.disconnect(); print(client.status.value)",
        ["IDLE"],
    ),
    "throws all away": ("del client; gc.collect()", []),
    "talks": (
        "print(raised(client.send, 'news')); print(raised(client.call, 'double', 3).code)",
        [
            "wse.client.not-ready: the client is IDLE: connect() first",
            "wse.client.not-ready",
        ],
    ),
    "connects on its own": (
        "print(client.connect('bob'), client.call('double', 3)); client.disconnect()",
        ["hello bob 6"],
    ),
}


@pytest.mark.parametrize(("where", "make"), [("main", "multiprocess"), ("handler", "fork")])
@pytest.mark.parametrize("child", CLIENTS_CHILDREN)
def test_what_a_child_of_a_client_does_its_server_does_not_notice(
    make_server: MakeServer, where: str, make: str, child: str
) -> None:
    work, printed = CLIENTS_CHILDREN[child]
    server = make_server(lambda auth: auth.accept(auth.identity, f"hello {auth.identity}"))
    server.register("double", lambda conn, number: 2 * number)
    server.register("have it fork", lambda conn, payload: conn.call("fork"))
    closed, news = Recorder(), Recorder()
    server.when.left(lambda client, code, reason: closed.add((client.cid, code)))
    server.channel.on("news", news)
    with Program(CALLING, server.url, where, make, work) as program:
        assert program.end() == (0, [*printed, "done", "0", "READY 4"], [])
    expected = [("bob", 1000)] if "bob" in work else []
    closed.wait_for(len(expected) + 1)
    assert closed.items == [*expected, ("ann", 1000)]
    assert news.items == []


HELD = (
    PRELUDE
    + """
import contextlib
import threading

server, client = WseServer(lambda auth: auth.accept(auth.identity), port=0), WseClient("ws://host/")
news, held = server.channel.listen("news"), threading.Event()
locks = [inbox._changed for inbox in (news, client.channel.listen())]
for end in (server, client):
    tables = end.channel, end.procedures, *vars(end.when).values()
    locks += [table._lock for table in tables]


def hold():
    with contextlib.ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock)
        held.set()
        threading.Event().wait()


def work():
    server.register("double", lambda conn, number: 2 * number)
    server.when.connected(lambda conn: print(conn.cid, flush=True))
    client.channel.on("news", print)
    client.register("double", lambda number: 2 * number)
    client.when.closed(print)
    with server, WseClient(server.url) as other:
        other.connect("ann")
        print(other.call("double", 3))
        other.send("news", 1)
        print(news.get(10)[1:])


threading.Thread(target=hold, daemon=True).start()
held.wait()
fork(work)
os._exit(0)
"""
)


def test_a_child_finds_no_table_of_handlers_locked() -> None:
    """Whatever a thread of its parent was about to bind, or to take."""
    with Program(HELD) as program:
        assert program.end() == (0, ["ann", "6", "('news', 1)", "done"], [])


OUTLIVED = (
    PRELUDE
    + """
import socket
import time

children = []


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    children.append(os.fork())
    if not children[-1]:
        time.sleep(60)
        os._exit(1)
    yield b"the end"


server = WseServer(lambda auth: auth.accept(auth.identity), port=0, http_app=app).start()
with socket.create_connection(("127.0.0.1", server.port)) as page:
    page.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(page.makefile("rb").readlines()[-1].decode())
server.close()
print("closed")
os.kill(children[0], signal.SIGKILL)
print(os.waitpid(children[0], 0)[1])
"""
)


def test_a_child_that_lives_on_holds_up_no_end() -> None:
    """Neither that of an answer without a length, nor that of the server."""
    with Program(OUTLIVED) as program:
        assert program.end() == (0, ["the end", "closed", "9"], [])
