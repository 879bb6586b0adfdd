"""Everybody may come in; each connection becomes a user of its own."""

from wse_sync import AuthRequest, WseClient, WseServer


def identify(auth: AuthRequest) -> None:
    auth.accept(f"guest-{auth.conn_id[:8]}", "come in")


with WseServer(identify, port=0) as server:
    one, other = WseClient(server.url), WseClient(server.url)
    print(one.connect())
    print(other.connect())
    print("users:", len(server.clients))
    one.disconnect()
    other.disconnect()
