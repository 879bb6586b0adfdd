"""A device of the tutorial that comes back by itself."""

from __future__ import annotations

from wse_sync import WSE_STATUS, WseClient

device = WseClient("ws://127.0.0.1:8765/", reconnect=True)
device.register("battery", lambda _: 100)


@device.when.updated
def updated(status: WSE_STATUS) -> None:
    print(status, flush=True)


with device:
    try:
        device.connect({"name": "bob", "password": "mellon"}, {"device": "watch"})
        device.wait()
    except KeyboardInterrupt:
        print("bye")
