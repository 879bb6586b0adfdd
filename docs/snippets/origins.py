"""Which pages may connect."""

from wse_sync import AuthRequest, WseClient, WseConnectionError, WseServer


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, "hello")


# Your own pages are at another address than this server: name them.
with WseServer(identify, port=0, origins=["https://app.example.org"]) as server:
    for origin in ("https://app.example.org", "https://evil.example"):
        # A browser tells where the page came from; here we pretend to be one.
        with WseClient(server.url, ws_options={"origin": origin}) as browser:
            try:
                print(origin, "->", browser.connect("ann"))
            except WseConnectionError as error:
                print(origin, "->", error.details["status"])

    # Programs send no origin, and are let in.
    with WseClient(server.url) as program:
        print("a program ->", program.connect("ann"))
