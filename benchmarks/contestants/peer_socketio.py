"""python-socketio in threading mode, alone and inside Flask-SocketIO, behind werkzeug's server.

The client is python-socketio's own in both cases. It uses WebSocket from the start. Handlers run in
a thread for each event, as they do by default; without it, they could not call back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any

from .base import RESULT_TIMEOUT, Client, Contestant, Dialect, Served, text_frame
from .work import Payload, Work

__all__ = ["FlaskSocketIO", "PythonSocketIO"]

_MAX_MESSAGE_BYTES = 16 * 2**20
_NEVER = 10**6  # s between pings: it has no way to have none


class PythonSocketIO(Contestant):
    """python-socketio."""

    name = "python-socketio"
    modules: tuple[str, ...] = ("socketio", "simple_websocket", "websocket", "werkzeug")
    dialect = Dialect(
        path="/socket.io/?EIO=4&transport=websocket",
        steps=((None, "0{"), ("40", "40{")),
        ping="2",
        pong="3",
    )
    threads = 4

    def serve(self, ping_interval: float | None) -> Served:
        return _SocketServed(ping_interval)

    def connect(self, url: str) -> Client:
        return _SocketClient(url)

    def frame(self, payload: Any) -> bytes:
        return text_frame("42" + json.dumps(["news", payload], separators=(",", ":")))


class FlaskSocketIO(PythonSocketIO):
    """Flask-SocketIO."""

    name = "Flask-SocketIO"
    modules = (*PythonSocketIO.modules, "flask", "flask_socketio")

    def __init__(self) -> None:
        super().__init__()
        why = "it is python-socketio that does this"
        self.cannot.update(broadcast=why, heartbeat=why)

    def serve(self, ping_interval: float | None) -> Served:
        return _FlaskServed(ping_interval)


class _SocketServed(Served):
    def __init__(self, ping_interval: float | None) -> None:
        import socketio

        super().__init__()
        work = self.work
        server = socketio.Server(
            async_mode="threading",
            max_http_buffer_size=_MAX_MESSAGE_BYTES,
            ping_interval=ping_interval or _NEVER,
        )
        server.on("connect", lambda _sid, _environ: self.changed(1))
        server.on("disconnect", lambda _sid, _reason: self.changed(-1))
        server.on("add", lambda _sid, payload: work.add(payload))
        server.on("echo", lambda _sid, text: work.echo(text))
        server.on("sleep", lambda _sid, seconds: work.sleep(seconds))
        server.on("note", lambda _sid, payload: work.note(payload))
        server.on("noted", lambda _sid, count: {"noted": work.noted(count)})
        server.on(
            "bounce",
            lambda sid, payload: work.bounce(
                payload, lambda less: server.call("bounce", less, to=sid)
            ),
        )
        self._emit: Callable[..., Any] = server.emit
        self._listen(socketio.WSGIApp(server))

    def _listen(self, app: Any) -> None:
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Handler(WSGIRequestHandler):
            disable_nagle_algorithm = True

        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
        self.start_thread(server.serve_forever)
        self.url = f"ws://127.0.0.1:{server.server_port}"

    def send_to_all(self, payload: Any) -> None:
        self._emit("news", payload)


class _FlaskServed(_SocketServed):
    def __init__(self, ping_interval: float | None) -> None:
        import flask
        import flask_socketio

        Served.__init__(self)
        work = self.work
        app = flask.Flask(__name__)
        server = flask_socketio.SocketIO(
            app,
            async_mode="threading",
            max_http_buffer_size=_MAX_MESSAGE_BYTES,
            ping_interval=ping_interval or _NEVER,
        )

        def bounce(payload: Payload) -> int:
            request: Any = flask.request
            sid = request.sid
            return work.bounce(payload, lambda less: server.call("bounce", less, to=sid))

        server.on_event("connect", lambda _auth=None: self.changed(1))
        server.on_event("disconnect", lambda _reason=None: self.changed(-1))
        server.on_event("add", work.add)
        server.on_event("echo", work.echo)
        server.on_event("sleep", work.sleep)
        server.on_event("note", work.note)
        server.on_event("noted", lambda count: {"noted": work.noted(count)})
        server.on_event("bounce", bounce)
        self._emit = server.emit
        self._listen(app)


class _SocketClient(Client):
    def __init__(self, url: str) -> None:
        import socketio

        self._client: Any = socketio.Client(reconnection=False, handle_sigint=False)
        work = Work()
        self._client.on(
            "bounce",
            lambda payload: work.bounce(payload, lambda less: self._call("bounce", less)),
        )
        self._client.connect(url, transports=["websocket"], wait_timeout=10)

    def _call(self, name: str, payload: Any) -> Any:
        return self._client.call(name, payload, timeout=RESULT_TIMEOUT)

    def add(self, payload: Payload) -> int:
        return int(self._call("add", payload))

    def echo(self, text: str) -> str:
        return str(self._call("echo", text))

    def submit(self, name: str, payload: Any) -> Callable[[], Any]:
        future: Future[Any] = Future()
        self._client.emit(name, payload, callback=future.set_result)
        return lambda: future.result(RESULT_TIMEOUT)

    def send(self, payload: Payload) -> None:
        self._client.emit("note", payload)

    def noted(self, count: int) -> list[int]:
        return list(self._call("noted", count)["noted"])

    def bounce(self, payload: Payload) -> int:
        return int(self._call("bounce", payload))

    def close(self) -> None:
        # It takes three seconds, which nobody has to wait for.
        Thread(target=self._client.disconnect, daemon=True).start()
