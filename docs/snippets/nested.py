"""A procedure that asks back before it answers."""

from __future__ import annotations

from typing import Any

from wse_sync import AuthRequest, WseClient, WseConnection, WseServer


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


server = WseServer(identify, port=0)


@server.register("delete")
def delete(conn: WseConnection, name: str) -> str:
    if conn.call("confirm", f"really delete {name}?"):
        return f"{name} is deleted"
    return f"{name} stays"


with server, WseClient(server.url) as client:

    @client.register("confirm")
    def confirm(question: Any) -> bool:
        print(question)
        return True

    client.connect("ann")
    print(client.call("delete", "letters.txt"))
