"""A server that says hello, adds numbers and passes on what is said.

Run it with ``python examples/hello_server.py``, and hello_client.py in another terminal.
"""

from wse_sync import AuthRequest, WseConnection, WseServer


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, f"hello, {auth.identity}")


server = WseServer(identify, port=8765)


@server.register("add")
def add(conn: WseConnection, numbers: list[float]) -> float:
    return sum(numbers)


@server.channel.on("say")
def say(conn: WseConnection, text: str) -> None:
    server.broadcast("said", f"{conn.cid}: {text}")


print("listening on", server.start().url)
server.serve_forever()
