"""A client that keeps coming back, and says how it is."""

from wse_sync import WSE_STATUS, Backoff, WseClient, WsePermissionError

client = WseClient(
    "ws://127.0.0.1:8765/",
    reconnect=True,
    backoff=Backoff(initial=0.2, maximum=5.0),
)


@client.when.updated
def updated(status: WSE_STATUS) -> None:
    print("status:", status, flush=True)


@client.when.ready
def ready(welcome: str) -> None:
    print("welcome:", welcome, flush=True)


@client.when.closed
def closed(code: int, reason: str) -> None:
    print("closed:", code, reason, flush=True)


with client:
    try:
        client.connect("ann")
        client.wait()  # until it is offline for good
    except WsePermissionError:
        print("the server does not want us")
    except KeyboardInterrupt:
        print("bye")
