"""Which exceptions a script should expect, and what to do about each."""

from __future__ import annotations

from typing import Any

from wse_sync import (
    WSE_ERROR,
    AuthRequest,
    WseClient,
    WseConnection,
    WseConnectionError,
    WseError,
    WseLookupError,
    WseServer,
    WseTimeoutError,
)


def ask(client: WseClient, name: str, payload: Any = None) -> str:
    try:
        return f"it says {client.call(name, payload, timeout=5)!r}"
    except WseTimeoutError:
        return "no answer in time; it may or may not have run"
    except WseConnectionError as error:
        if error.code == WSE_ERROR.CONNECTION_NOT_READY:
            return "nothing was sent: connect first"
        return "the link was lost; it may or may not have run"
    except WseLookupError:
        return "there is no such procedure: wrong name, or an older server"
    except WseError as error:
        return f"the procedure failed: {error.code}"


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


with WseServer(identify, port=0) as server:

    @server.register("bye")
    def bye(conn: WseConnection, _: Any) -> None:
        conn.drop()

    @server.register("fail")
    def fail(conn: WseConnection, _: Any) -> None:
        raise WseError("bank.no-money")

    with WseClient(server.url) as client:
        print(ask(client, "fail"))
        client.connect("ann")
        print(ask(client, "fail"))
        print(ask(client, "fly"))
        print(ask(client, "bye"))
