"""WSE inside Flask applications: an extension that serves the WebSocket beside their pages.

A :class:`WseFlask` is what the handlers are bound to. Each application that it is given gets a
server of its own, with its own users and settings, which runs those handlers in the application's
context. Nothing is started before the first connection comes: neither in the process of a reloader
that only watches, nor before a fork.

Threads: applications are given before requests come in; everything else from any thread. No lock of
its own. ``_apps`` is only added to, and read in one step.
"""

from __future__ import annotations

import atexit
import inspect
import io
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from threading import Thread
from typing import Any

import flask
from werkzeug.exceptions import SecurityError
from werkzeug.wsgi import get_host

from .auth import AuthRequest
from .channel import Channel
from .checks import bad_type, bad_value, check_seconds
from .connection import Connection
from .link import Link
from .registry import WseIdentity
from .server import GeneratorT, WseServer
from .sessions import WseConnection
from .stats import ServerStats
from .workers import Task

__all__ = ["WseFlask"]

_NAME = "wse"
_SERVER = "wse.server"  # where an application keeps its server
_PREFIX = "WSE_"
_NOT_OPTIONS = frozenset({"self", "identify", "host", "port", "http_app", "ssl_context"})
_OPTIONS = frozenset(inspect.signature(WseServer.__init__).parameters) - _NOT_OPTIONS
# Attributes of a server that users and tests read, and that an application may have set.
_SHOWN = ("path", "protocol", "conn_per_user", "call_timeout")
_GOODBYE = 1.0  # s for it, when the process ends


class WseFlask(WseServer):
    """A :class:`wse_sync.WseServer` that is a Flask extension.

    Every handler (identify, a challenge generator, channels, procedures, signals) runs in a request
    context of its own, made of the connection's handshake: ``current_app``, ``request``, ``g``,
    ``session`` and what builds on them, such as Flask-Login's ``current_user``, work in it, and
    what is done at the end of a request is done when the handler returns. ``session`` can be read;
    no response takes changes back to the browser. Functions for ``before_request`` do not run.

    To send, to call and to drop need no context. With one application that is all there is to it.
    With several, ``clients``, ``send``, ``broadcast``, ``drop_client`` and ``stats`` mean that of
    the current context; see :meth:`of`. ``protocol``, ``conn_per_user`` and ``call_timeout`` are
    those of the application that came last.

    Two endpoints are added: ``url_for("wse")`` is the path of the WebSocket, and
    ``url_for("wse_script")`` that of the browser's client.

    Args:
        app: The application; None: :meth:`init_app` comes later.
        identify: Decides who comes in, as for :class:`wse_sync.WseServer`.
        path: The URL path of the WebSocket.
        options: Those of :class:`wse_sync.WseServer`, except for those of a listener of its own.
            What ``app.config`` says under their names, like ``WSE_MAX_CONNECTIONS``, comes first.

    Raises:
        WseError: There is no identify handler (IDENTIFY_HANDLER_MISSING).
        WseTypeError, WseValueError: An option makes no sense.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        identify: Callable[[AuthRequest], object],
        path: str = "/ws",
        **options: Any,
    ) -> None:
        unknown = sorted(options.keys() - _OPTIONS)
        if unknown:
            raise bad_type(f"WseFlask has no option {unknown[0]!r}; it has {_listed(_OPTIONS)}")
        self._options = _checked({"path": path, **options})
        super().__init__(identify, **self._options)
        # Those of a factory come and go; one that was given here is there for as long as this is.
        self._apps: weakref.WeakSet[flask.Flask] = weakref.WeakSet()
        self._own_app = app
        self.channel = _SharedChannel(self.peer.check_type, self._is_over)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Serves an application, too; before its first request.

        Raises:
            WseValueError: It has been given a WseFlask before, or a setting makes no sense.
            WseTypeError: Likewise.
        """
        if _NAME in app.extensions:
            raise bad_value(f"{app} has a WseFlask already")
        options = _checked({**self._options, **_settings(app.config)})
        server = _AppServer(self, app, options)
        _add_endpoints(app, options["path"])
        app.wsgi_app = server.wsgi_app  # type: ignore[method-assign]
        app.extensions[_NAME] = self
        app.extensions[_SERVER] = server
        self._apps.add(app)
        _servers.add(server)
        for name in _SHOWN:
            setattr(self, name, getattr(server, name))
        self.channel.resume()

    def of(self, app: flask.Flask | None = None) -> WseServer:
        """The server of one application.

        Args:
            app: Which; None: that of the current context, or the only one.

        Raises:
            WseValueError: There is none, or it is not clear which.
        """
        apps = list(self._apps)
        if app is None and flask.has_app_context():
            current = flask.current_app._get_current_object()  # type: ignore[attr-defined]
            app = current if current in apps else None
        if app is None and len(apps) == 1:
            app = apps[0]
        if app is None and apps:
            raise bad_value(
                f"this WseFlask serves {len(apps)} applications: say so in the context of one"
                " (with app.app_context():), or to wse.of(app)"
            )
        if app not in apps:
            raise bad_value("this WseFlask has no such application: wse.init_app(app) comes first")
        server: WseServer = app.extensions[_SERVER]
        return server

    @property
    def clients(self) -> Mapping[Any, WseIdentity]:
        """Who is there: a read-only mapping ``cid -> WseIdentity``, safe to iterate over."""
        return self.of().clients

    def broadcast(self, type: Any, payload: Any = None) -> int:
        """Sends a message to everyone in this process; see :meth:`wse_sync.WseServer.broadcast`."""
        return self.of().broadcast(type, payload)

    def stats(self) -> ServerStats:
        """What was done for one application in this process; see :meth:`wse_sync.WseServer.stats`.

        Raises:
            WseValueError: As :meth:`of`.
        """
        return self.of().stats()

    def send_to(self, connections: Iterable[WseConnection], type: Any, payload: Any) -> int:
        return self.of().send_to(connections, type, payload)

    def use_challenge(self, generator: GeneratorT) -> GeneratorT:
        super().use_challenge(generator)
        for app in list(self._apps):
            app.extensions[_SERVER].generator = generator
        return generator

    def wsgi_app(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """The application with its WebSocket; ``app.wsgi_app`` is the same."""
        return self.of().wsgi_app(environ, start_response)

    def start(self) -> WseServer:
        """Not here: whoever serves the application listens.

        Raises:
            WseValueError: Always.
        """
        raise bad_value("the application is served by flask run or gunicorn, this comes with it")

    def reopen(self) -> None:
        if len(self._apps) > 1:
            raise bad_value(
                f"this WseFlask serves {len(self._apps)} applications: to test one, say"
                " TestServer(wse.of(app))"
            )
        self.of().reopen()

    def links(self) -> list[Link]:
        return [link for app in list(self._apps) for link in app.extensions[_SERVER].links()]

    def running(self) -> dict[Thread, Task | None]:
        threads: dict[Thread, Task | None] = {}
        for app in list(self._apps):
            threads.update(app.extensions[_SERVER].running())
        return threads

    def close(self, timeout: float = 5.0) -> None:
        """Ends the connections of every application, as :meth:`wse_sync.WseServer.close`.

        It is called when the process ends.
        """
        check_seconds(timeout=timeout)
        for app in list(self._apps):
            app.extensions[_SERVER].close(timeout)

    def _is_over(self) -> bool:
        return all(app.extensions[_SERVER].is_closing for app in list(self._apps))

    def __repr__(self) -> str:
        apps = sorted(f"{app.extensions[_SERVER].path} of {app.name}" for app in self._apps)
        return f"<WseFlask {', '.join(apps) or 'of no application yet'}>"


class _SharedChannel(Channel):
    """The messages to every application: more may come until the last server is closed.

    Args:
        check_type: As for :class:`wse_sync.channel.Channel`.
        is_over: Whether all of them are closed. A server says so of itself before it interrupts, so
            of those that close at the same time the last one finds them all.
    """

    def __init__(self, check_type: Callable[[Any], None], is_over: Callable[[], bool]) -> None:
        super().__init__(check_type)
        self._is_over = is_over

    def interrupt(self, why: str) -> None:
        if self._is_over():
            super().interrupt(why)


class _AppServer(WseServer):
    """The server of one application. What is bound to the extension is bound to it."""

    def __init__(self, extension: WseFlask, app: flask.Flask, options: dict[str, Any]) -> None:
        self._pages = app.wsgi_app
        super().__init__(extension.identify, http_app=self._pages, **options)
        self.channel = extension.channel
        self.procedures = extension.procedures
        self.when = extension.when
        self.generator = extension.generator
        self.serves_in: int | None = None
        self._app = app
        self._warned = False

    def wsgi_app(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if not self._knows_host(environ):
            return self._pages(environ, start_response)
        return super().wsgi_app(environ, start_response)

    def _knows_host(self, environ: dict[str, Any]) -> bool:
        """Whether the application answers to this name; Flask refuses the request if not.

        The default of ``origins`` relies on it. A page whose own name leads here, by whatever its
        owner's name server says, is of the same origin.
        """
        trusted = self._app.config.get("TRUSTED_HOSTS")
        if trusted is None:
            return True
        try:
            get_host(environ, trusted)
        except SecurityError:
            return False
        return True

    def admit(self, make: Callable[[], WseConnection]) -> WseConnection | None:
        self.serves_in = os.getpid()
        return super().admit(make)

    def run_handler(
        self, connection: Connection, handler: Callable[..., Any], *arguments: Any, **values: Any
    ) -> Any:
        assert isinstance(connection, WseConnection)
        with self._app.request_context(_environ_of(connection)) as context:
            try:
                return handler(*arguments, **values)
            finally:
                if context.session.modified and not self._warned:
                    self._warned = True
                    self.log.warning(
                        "a handler changed flask.session: no response takes that to the browser,"
                        " so it is lost (said once)"
                    )


def _environ_of(connection: WseConnection) -> dict[str, Any]:
    """That of the handshake, for one request context: contexts write into theirs, and end it."""
    return {**connection.environ, "wsgi.input": io.BytesIO(), "werkzeug.request": None}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the settings of an application name."""
    named = {
        key[len(_PREFIX) :].lower(): value
        for key, value in config.items()
        if key.startswith(_PREFIX)
    }
    unknown = sorted(named.keys() - _OPTIONS)
    if unknown:
        raise bad_value(
            f"app.config has {_PREFIX}{unknown[0].upper()}, which is no setting;"
            f" they are {_PREFIX}… with {_listed(_OPTIONS)}"
        )
    return named


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """As given. A server without a path answers everywhere; this one has pages beside it."""
    if options["path"] is None:
        raise bad_type("path must be that of the WebSocket beside the pages, not None")
    return options


def _add_endpoints(app: flask.Flask, path: str) -> None:
    """For ``url_for``, and so that handlers have an endpoint. The server comes before all of it."""
    # At the root a page may live as well; elsewhere a request that is no upgrade is a mistake.
    app.add_url_rule(path, _NAME, _say_what_it_is, build_only=path == "/")
    app.add_url_rule(path, f"{_NAME}_socket", _say_what_it_is, websocket=True)
    app.add_url_rule(f"{path.rstrip('/')}/wse.js", f"{_NAME}_script", build_only=True)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _say_what_it_is() -> tuple[str, int]:
    """The view of a request that is no upgrade."""
    return "This is a WebSocket: connect with a WSE client.\n", HTTPStatus.UPGRADE_REQUIRED


_servers: weakref.WeakSet[_AppServer] = weakref.WeakSet()


@atexit.register
def _say_goodbye() -> None:
    """Has clients come back to the next process. One that was forked off says nothing: the sockets
    that it has are copies."""
    for server in list(_servers):
        if server.serves_in == os.getpid():
            server.close(_GOODBYE)
