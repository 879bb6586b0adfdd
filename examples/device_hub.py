"""The hub of device.py: shows what devices report, and calls them.

Run it with ``python examples/device_hub.py``. Type ``NAME PROCEDURE [JSON]`` to call a device, for
example ``kitchen read`` or ``kitchen led true``; Ctrl-C or Ctrl-D ends it.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from wse_sync import AuthRequest, WseConnection, WseError, WseIdentity, WseServer


def show(line: str) -> None:
    """Prints a line in one piece, for the threads that print."""
    print(f"{line}\n", end="", flush=True)


def identify(auth: AuthRequest) -> None:
    """Takes any name that is one word; challenge_auth.py shows how to have it proved."""
    name = str(auth.identity)
    if name.isidentifier():
        auth.accept(name)
    else:
        auth.refuse()


def make_server(host: str, port: int) -> WseServer:
    server = WseServer(identify, host=host, port=port)

    # Not joined: a device that is started again takes the place of the connection that it has lost.
    server.when.connected(lambda conn: show(f"{conn.cid} is here"))

    @server.when.left
    def left(client: WseIdentity, code: int, reason: str) -> None:
        show(f"{client.cid} is gone")

    # A link was lost, or found again. What is sent to the device meanwhile waits for it.
    server.when.suspended(lambda conn: show(f"{conn.cid} is away"))
    server.when.resumed(lambda conn: show(f"{conn.cid} is back"))

    @server.channel.on("reading")
    def reading(conn: WseConnection, values: dict[str, Any]) -> None:
        show(f"{conn.cid} reads {json.dumps(values)}")

    @server.channel.on("pressed")
    def pressed(conn: WseConnection, values: dict[str, Any]) -> None:
        show(f"{conn.cid} was pressed")

    return server


def obey(server: WseServer, line: str) -> str:
    """Calls a device as the line says; returns what to show."""
    words = line.split(maxsplit=2)
    if len(words) < 2:
        return f"here: {', '.join(server.clients)}"
    name, procedure, *argument = words
    client = server.clients.get(name)
    if client is None:
        return f"{name} is not here"
    try:
        payload = json.loads(argument[0]) if argument else None
        return "\n".join(
            f"{name} answers {json.dumps(conn.call(procedure, payload))}"
            for conn in client.conns.values()
        )
    except (WseError, json.JSONDecodeError) as error:
        return f"{name}: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description="The hub of the devices.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: every interface")
    parser.add_argument("--port", type=int, default=8765, help="0: a free one")
    options = parser.parse_args()
    with make_server(options.host, options.port) as server:
        show(f"listening on {server.url}")
        try:
            for line in sys.stdin:
                show(obey(server, line))
        except KeyboardInterrupt:
            show("closed")


if __name__ == "__main__":
    main()
