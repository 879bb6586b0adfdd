"""A client that logs in, calls, sends a message and takes one.

Run it with ``python examples/hello_client.py`` while hello_server.py runs.
"""

from wse_sync import WseClient

client = WseClient("ws://127.0.0.1:8765/")
with client, client.channel.listen("said") as inbox:
    print(client.connect("ann"))
    print("2 + 3 =", client.call("add", [2, 3]))
    client.send("say", "good morning")
    print(next(inbox))
