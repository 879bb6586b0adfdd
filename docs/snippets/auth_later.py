"""A thread of its own decides who comes in."""

from __future__ import annotations

import threading
from queue import Queue

from wse_sync import AuthRequest, WseClient, WsePermissionError, WseServer

requests: Queue[AuthRequest] = Queue()


def is_known(name: object) -> bool:
    """Stands for a question to a database, or to a person."""
    return name == "ann"


def decide() -> None:
    while True:
        auth = requests.get()
        if is_known(auth.identity):
            auth.accept(auth.identity, "welcome")
        else:
            auth.refuse()


threading.Thread(target=decide, daemon=True).start()

with WseServer(requests.put, port=0, auth_timeout=60.0) as server:
    for name in ("ann", "eve"):
        with WseClient(server.url) as client:
            try:
                print(name, "->", client.connect(name))
            except WsePermissionError as error:
                print(name, "->", error.code)
