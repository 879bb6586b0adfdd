"""A chat: whoever has a name may come in and talk."""

from wse_sync import AuthRequest, WseConnection, WseIdentity, WseServer


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, sorted(server.clients))


server = WseServer(identify, port=8765, path="/chat")


@server.channel.on("say")
def say(conn: WseConnection, text: str) -> None:
    server.broadcast("said", f"{conn.cid}: {text}")


@server.when.left
def left(client: WseIdentity, code: int, reason: str) -> None:
    server.broadcast("left", client.cid)


if __name__ == "__main__":
    server.serve_forever()
