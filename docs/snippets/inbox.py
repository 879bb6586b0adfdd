"""Messages without handlers, for scripts."""

import threading

from wse_sync import AuthRequest, WseClient, WseServer, WseTimeoutError


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


server = WseServer(identify, port=0)
stop = threading.Event()


def tick() -> None:
    while not stop.wait(0.02):
        server.broadcast("tick", "tock")


with server, WseClient(server.url) as client:
    client.connect("ann")

    # wait: the next message of a type, from now on
    threading.Thread(target=tick, daemon=True).start()
    print(client.channel.wait("tick", timeout=10))
    stop.set()

    try:
        client.channel.wait("news", timeout=0.1)
    except WseTimeoutError as error:
        print(error)

    # listen: everything from here on, one by one
    with client.channel.listen("news", "weather") as inbox:
        server.send("ann", "news", "tea is ready")
        server.send("ann", "weather", "rain")
        server.send("ann", "news", "no more tea")
        for type, payload in inbox:
            print(type, "-", payload)
            if payload == "no more tea":
                break

    # at the server the items begin with the connection
    with server.channel.listen("say") as questions:
        client.send("say", "why?")
        conn, type, payload = questions.get(timeout=10)
        print(conn.cid, type, payload)
