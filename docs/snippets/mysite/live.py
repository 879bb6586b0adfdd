"""The WebSocket of the project: who may come in, and what they can do."""

from __future__ import annotations

from functools import wraps
from typing import Any, Callable

from django.contrib.auth import get_user, get_user_model
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.wsgi import WSGIRequest
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse

from wse_sync import AuthRequest, WseConnection, WseServer

Handler = Callable[..., Any]


def uses_database(handler: Handler) -> Handler:
    """For handlers that use models, which run in threads that Django knows nothing of.

    Django has a connection to the database in each thread and closes those of its requests. Here
    that is for us to do.
    """

    @wraps(handler)
    def run(*arguments: Any) -> Any:
        close_old_connections()
        try:
            return handler(*arguments)
        finally:
            close_old_connections()

    return run


@uses_database
def identify(auth: AuthRequest) -> None:
    """Whoever is logged in on the site, by the cookie of the session."""
    request = WSGIRequest(auth.environ)
    SessionMiddleware(lambda request: HttpResponse()).process_request(request)
    user = get_user(request)
    if user.is_authenticated:
        auth.accept(user.get_username(), "hello")
    else:
        auth.refuse()


server = WseServer(identify, path="/ws")  # no port: it is mounted


@server.register("last login")
@uses_database
def last_login(conn: WseConnection, payload: Any) -> str:
    user = get_user_model().objects.get_by_natural_key(conn.cid)
    return str(user.last_login.isoformat())


def tell(sender: Any, request: HttpRequest, user: Any, **more: Any) -> None:
    server.broadcast("logged in", user.get_username())


user_logged_in.connect(tell)
