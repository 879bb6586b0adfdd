"""Logs for the journal of systemd, with priorities."""

from __future__ import annotations

import logging
import sys

from wse_sync import AuthRequest, WseClient, WseConnection, WseError, WseServer

PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}


class Journal(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = PRIORITIES.get(record.levelname, 5)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


handler = logging.StreamHandler(sys.stderr)
handler.setFormatter(Journal("%(name)s: %(message)s"))
logging.basicConfig(level=logging.INFO, handlers=[handler])

log = logging.getLogger("greenhouse")


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


server = WseServer(identify, port=0)


@server.register("divide")
def divide(conn: WseConnection, by: float) -> float:
    return 1 / by


with server, WseClient(server.url) as client:
    client.connect("tomatoes")
    try:
        client.call("divide", 0)
    except WseError as error:
        log.warning("divide: %s", error.code)
