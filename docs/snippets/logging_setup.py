"""Logs as lines of JSON; and with them who comes, goes away and comes back."""

from __future__ import annotations

import json
import logging
import logging.config

from wse_sync import WSE_STATUS, AuthRequest, WseClient, WseConnection, WseError, WseServer

log = logging.getLogger("greenhouse")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonLines}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {"wse_sync": {"level": "INFO"}, "greenhouse": {"level": "INFO"}},
}


def log_users(server: WseServer) -> None:
    """Who is there, at a server."""

    @server.when.connected
    def connected(conn: WseConnection) -> None:
        log.info("%s is there, from %s", conn.cid, conn.remote_addr)

    @server.when.suspended
    def suspended(conn: WseConnection) -> None:
        log.warning("%s has lost its link", conn.cid)

    @server.when.resumed
    def resumed(conn: WseConnection) -> None:
        log.info("%s is back, from %s", conn.cid, conn.remote_addr)

    @server.when.disconnected
    def disconnected(conn: WseConnection, code: int, reason: str) -> None:
        log.info("%s is gone: %d %s", conn.cid, code, reason)


def log_links(client: WseClient) -> None:
    """What befalls the links of a client."""

    @client.when.closed
    def closed(code: int, reason: str) -> None:
        log.warning("the link is lost: %d %s", code, reason)

    @client.when.updated
    def updated(status: WSE_STATUS) -> None:
        log.info("the client is %s", status)


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


if __name__ == "__main__":
    logging.config.dictConfig(CONFIG)
    server = WseServer(identify, port=0)
    log_users(server)

    @server.register("divide")
    def divide(conn: WseConnection, by: float) -> float:
        return 1 / by

    with server, WseClient(server.url) as client:
        log_links(client)
        client.connect("tomatoes")
        try:
            client.call("divide", 0)
        except WseError as error:
            log.error("divide: %s", error.code)
