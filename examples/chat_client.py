"""A chat for terminals: the client. It comes back by itself when the link is lost.

Run it with ``python examples/chat_client.py NAME`` while chat_server.py runs. Type what you want to
say; ``/to NAME TEXT`` tells one user only, ``/who`` lists who is here, Ctrl-C or Ctrl-D ends it.
"""

from __future__ import annotations

import argparse
import sys
import threading
from typing import Any

from wse_sync import WSE_REASON, WSE_STATUS, WseClient, WseError, WsePermissionError

STATUS_TEXTS = {
    WSE_STATUS.CONNECTING: "connecting",
    WSE_STATUS.READY: "connected",
    WSE_STATUS.RE_CONNECTING: "connection lost, trying again",
    WSE_STATUS.OFFLINE: "offline",
}


def show(line: str) -> None:
    """Prints a line in one piece, for the threads that print."""
    print(f"{line}\n", end="", flush=True)


def make_client(url: str, name: str) -> WseClient:
    client = WseClient(url, reconnect=True)

    @client.when.updated
    def updated(status: WSE_STATUS) -> None:
        show(f"* {STATUS_TEXTS[status]}")

    @client.when.closed
    def closed(code: int, reason: str) -> None:
        if reason and reason != WSE_REASON.BY_CLIENT:
            show(f"* closed: {reason}")

    @client.channel.on("here")
    def here(names: list[str]) -> None:
        show(f"* here: {', '.join(names)}")

    @client.channel.on("joined")
    def joined(who: str) -> None:
        if who != name:
            show(f"* {who} joined")

    @client.channel.on("left")
    def left(who: str) -> None:
        show(f"* {who} left")

    @client.channel.on("said")
    def said(message: dict[str, Any]) -> None:
        show(f"{message['from']}: {message['text']}")

    @client.channel.on("told")
    def told(message: dict[str, Any]) -> None:
        show(f"{message['from']} (to you): {message['text']}")

    return client


def obey(client: WseClient, line: str) -> None:
    """Does what a line from the keyboard asks for."""
    try:
        if line == "/who":
            for name, devices in client.call("who").items():
                show(f"* {name}, devices: {devices}")
        elif line.startswith("/to "):
            name, _, text = line[4:].partition(" ")
            devices = client.call("to", {"to": name, "text": text})
            show(f"* told {name}, devices: {devices}")
        elif line:
            client.send("say", line)
    except WseError as error:
        show(f"* {error}")


def follow_keyboard(client: WseClient) -> None:
    """Obeys until Ctrl-D."""
    # Not sys.stdin: it has a lock, and the interpreter cannot end while a thread waits inside.
    with open(0, "rb", buffering=0, closefd=False) as keyboard:
        for line in keyboard:
            obey(client, line.decode(errors="replace").strip())
    client.disconnect()


def main() -> int:
    parser = argparse.ArgumentParser(description="The client of a chat for terminals.")
    parser.add_argument("name", help="one word; the same one on all your devices")
    parser.add_argument("--url", default="ws://127.0.0.1:8765/")
    options = parser.parse_args()
    with make_client(options.url, options.name) as client:
        try:
            client.connect(options.name)
            threading.Thread(target=follow_keyboard, args=(client,), daemon=True).start()
            client.wait()
        except WsePermissionError:
            show("* the server does not take this name")
            return 1
        except KeyboardInterrupt:
            show("* bye")
    return 0


if __name__ == "__main__":
    sys.exit(main())
