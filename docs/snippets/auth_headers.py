"""The session cookie of a web application says who it is."""

from http.cookies import SimpleCookie

from wse_sync import AuthRequest, WseClient, WseServer

SESSIONS = {"5ca1ab1e": "ann"}


def identify(auth: AuthRequest) -> None:
    cookies = SimpleCookie(auth.environ.get("HTTP_COOKIE", ""))
    session = cookies["session"].value if "session" in cookies else ""
    user = SESSIONS.get(session)
    if user is None:
        auth.refuse()
    else:
        room = auth.environ.get("HTTP_X_ROOM", "nowhere")
        auth.accept(user, f"{user} from {auth.remote_addr}, in the {room}")


with WseServer(identify, port=0) as server:
    options = {"cookie": "session=5ca1ab1e", "header": {"X-Room": "kitchen"}}
    with WseClient(server.url, ws_options=options) as client:
        print(client.connect())
