"""A device on a bad network: what must arrive waits in a file until the server has it."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing

from wse_sync import WSE_STATUS, Backoff, WseClient, WseConnectionError, WseError

INTERVAL = 60.0  # s between readings

client = WseClient(
    "ws://127.0.0.1:8765/",
    reconnect=True,
    backoff=Backoff(initial=1.0, maximum=60.0),
    connect_timeout=30.0,
    call_timeout=600.0,  # as long as the server keeps a session
    ping_interval=240.0,
    ping_timeout=30.0,
    max_queue_bytes=256 * 1024,
    resume_buffer_bytes=512 * 1024,
)


def show(line: str) -> None:
    """Prints a line in one piece, for the threads that print."""
    print(f"{line}\n", end="", flush=True)


class Spool:
    """Readings that the server does not have yet, in a file."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path)
        self._db.execute("CREATE TABLE IF NOT EXISTS readings (id TEXT PRIMARY KEY, value)")

    def put(self, value: float) -> None:
        with self._db:
            self._db.execute("INSERT INTO readings VALUES (?, ?)", (uuid.uuid4().hex, value))

    def deliver(self) -> None:
        """Hands over what waits, the oldest first. What is repeated has its id of before."""
        waiting = self._db.execute("SELECT id, value FROM readings ORDER BY rowid").fetchall()
        for id, value in waiting:
            client.call("store", {"id": id, "value": value}, timeout=None)
            with self._db:
                self._db.execute("DELETE FROM readings WHERE id = ?", (id,))

    def close(self) -> None:
        self._db.close()


@client.when.updated
def updated(status: WSE_STATUS) -> None:
    show(status)


@client.when.error
def error(error: BaseException) -> None:
    if isinstance(error, WseError) and "messages" in error.details:
        show(f"maybe lost: {error.details['messages']}")


@client.channel.on("lamp")
def lamp(on: bool) -> None:
    client.send("lamp", on)
    show(f"lamp {on}")


def measure() -> float:
    return 21.5


def main() -> None:
    client.connect("kitchen")
    with closing(Spool("waiting.db")) as spool:
        while not client.wait(INTERVAL):
            spool.put(measure())
            try:
                spool.deliver()
            except WseConnectionError as error:
                show(f"next time: {error}")


if __name__ == "__main__":
    with client:
        try:
            main()
        except KeyboardInterrupt:
            show("bye")
