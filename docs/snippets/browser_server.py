"""A page and its WebSocket on one port: open http://127.0.0.1:8765/?name=ann in two tabs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable

from wse_sync import AuthRequest, WseConnection, WseServer

HERE = Path(__file__).parent
FILES = {
    "/": ("browser_page.html", "text/html"),
    "/page.js": ("browser_page.js", "text/javascript"),
}
POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'"


def pages(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] not in FILES:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such page"]
    name, kind = FILES[environ["PATH_INFO"]]
    headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Security-Policy", POLICY)]
    start_response("200 OK", headers)
    return [(HERE / name).read_bytes()]


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, f"hello {auth.identity}")


server = WseServer(identify, port=8765, path="/ws", http_app=pages, conn_per_user=5)


@server.register("users")
def users(conn: WseConnection, payload: Any) -> list[str]:
    return sorted(server.clients)


@server.channel.on("say")
def say(conn: WseConnection, text: str) -> None:
    server.broadcast("said", f"{conn.cid}: {text}")


print("listening on", server.start().url, flush=True)
server.serve_forever()
