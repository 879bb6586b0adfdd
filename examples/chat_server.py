"""A chat for terminals: the server. It passes on what is said and tells who comes and goes.

Run it with ``python examples/chat_server.py``, then chat_client.py in other terminals; Ctrl-C ends
it. Names are taken on trust here; token_auth.py shows how not to.
"""

from __future__ import annotations

import argparse
from typing import Any

from wse_sync import AuthRequest, WseConnection, WseError, WseIdentity, WseServer

MAX_TEXT = 500


def clean(text: Any) -> str:
    """What the terminals of others may get: no control characters, and not too much."""
    return "".join(c for c in str(text) if c.isprintable())[:MAX_TEXT]


def identify(auth: AuthRequest) -> None:
    """Takes any name that is one word."""
    name = auth.identity
    if isinstance(name, str) and name.isidentifier() and len(name) <= 20:
        auth.accept(name)
    else:
        auth.refuse()


def make_server(host: str, port: int) -> WseServer:
    server = WseServer(identify, host=host, port=port, conn_per_user=3)

    @server.when.connected
    def connected(conn: WseConnection) -> None:
        server.send(conn.cid, "here", sorted(server.clients))

    @server.when.joined
    def joined(client: WseIdentity, meta: dict[str, Any]) -> None:
        server.broadcast("joined", client.cid)

    @server.when.left
    def left(client: WseIdentity, code: int, reason: str) -> None:
        server.broadcast("left", client.cid)

    @server.channel.on("say")
    def say(conn: WseConnection, text: Any) -> None:
        server.broadcast("said", {"from": conn.cid, "text": clean(text)})

    @server.register("to")
    def to(conn: WseConnection, private: dict[str, Any]) -> int:
        """Sends something to one user; returns to how many devices it went."""
        name = clean(private["to"])
        count = server.send(name, "told", {"from": conn.cid, "text": clean(private["text"])})
        if count == 0:
            raise WseError("chat.not-here", {"name": name}, f"{name} is not here")
        return count

    @server.register("who")
    def who(conn: WseConnection, _: Any) -> dict[str, int]:
        """Who is here, with how many devices."""
        return {name: len(client.conns) for name, client in server.clients.items()}

    return server


def main() -> None:
    parser = argparse.ArgumentParser(description="The server of a chat for terminals.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: every interface")
    parser.add_argument("--port", type=int, default=8765, help="0: a free one")
    options = parser.parse_args()
    server = make_server(options.host, options.port).start()
    print("listening on", server.url)
    server.serve_forever()
    print("closed")


if __name__ == "__main__":
    main()
