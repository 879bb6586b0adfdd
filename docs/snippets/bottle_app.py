"""A Bottle application with a page, a login and a WebSocket.

Run it with ``gunicorn --worker-class gthread --threads 100 bottle_app:app``.
"""

from __future__ import annotations

from bottle import Bottle, Request, response

from wse_sync import AuthRequest, WseConnection, WseServer

SECRET = "of your own"

app = Bottle()


def identify(auth: AuthRequest) -> None:
    name = Request(auth.environ).get_cookie("name", secret=SECRET)
    if name is None:
        auth.refuse()
    else:
        auth.accept(name, f"hello {name}")


server = WseServer(identify)  # no port: it is mounted


@server.register("add")
def add(conn: WseConnection, numbers: list[float]) -> float:
    return sum(numbers)


def page() -> str:
    server.broadcast("seen", "/")
    return f"{len(server.clients)} users are here"


def login(name: str) -> str:
    response.set_cookie("name", name, secret=SECRET, path="/")
    return f"you are {name}"


app.route("/", "GET", page)
app.route("/login/<name>", "GET", login)
app.mount("/ws", server.wsgi_app)
