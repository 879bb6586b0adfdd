"""A server for devices on bad networks: patient, and nothing is stored twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from wse_sync import AuthRequest, WseConnection, WseIdentity, WseServer

DATABASE = "readings.db"


def show(line: str) -> None:
    """Prints a line in one piece, for the threads that print."""
    print(f"{line}\n", end="", flush=True)


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


server = WseServer(
    identify,
    port=8765,
    resume_window=600.0,  # a train in a long tunnel
    resume_buffer_bytes=2**20,
    max_suspended=500,  # so at most 500 MiB wait for devices that are away
    ping_interval=240.0,
    ping_timeout=30.0,
)


@server.when.suspended
def suspended(conn: WseConnection) -> None:
    show(f"{conn.cid} is away")


@server.when.resumed
def resumed(conn: WseConnection) -> None:
    show(f"{conn.cid} is back")


@server.when.left
def left(client: WseIdentity, code: int, reason: str) -> None:
    show(f"{client.cid} is gone ({code} {reason})")


with closing(sqlite3.connect(DATABASE)) as db, db:
    db.execute("CREATE TABLE IF NOT EXISTS readings (id TEXT PRIMARY KEY, device, value)")


@server.register("store")
def store(conn: WseConnection, reading: dict[str, Any]) -> None:
    row = reading["id"], conn.cid, reading["value"]
    with closing(sqlite3.connect(DATABASE)) as db, db:
        db.execute("INSERT OR IGNORE INTO readings VALUES (?, ?, ?)", row)


if __name__ == "__main__":
    show(f"listening on {server.start().url}")
    server.serve_forever()
