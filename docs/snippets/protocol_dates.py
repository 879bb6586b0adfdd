"""JSON, and points in time."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from wse_sync import AuthRequest, JsonProtocol, WseClient, WseConnection, WseServer

MARK = "@time"  # {"@time": "2030-01-01T00:00:00+00:00"}


def encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return {MARK: value.isoformat()}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def decode(items: dict[str, Any]) -> Any:
    return datetime.fromisoformat(items[MARK]) if set(items) == {MARK} else items


class DatesProtocol(JsonProtocol):
    """Both ends need it, and the name makes sure that they have it."""

    name = "example-json-dates"

    def pack(self, type: Any, payload: Any = None, stamp: Any = None) -> str:
        return super().pack(type, json.loads(json.dumps(payload, default=encode)), stamp)

    def unpack(self, data: str | bytes) -> Any:
        frame = super().unpack(data)
        payload = json.loads(json.dumps(frame.payload), object_hook=decode)
        return frame._replace(payload=payload)


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


with WseServer(identify, port=0, protocol=DatesProtocol()) as server:

    @server.register("next year")
    def next_year(conn: WseConnection, moment: datetime) -> datetime:
        return moment.replace(year=moment.year + 1)

    with WseClient(server.url, protocol=DatesProtocol()) as client:
        client.connect("ann")
        print(repr(client.call("next year", datetime(2030, 1, 1, tzinfo=timezone.utc))))
