"""Logging in with tokens that run out: a server, and a client that brings a fresh token each time.

Run it with ``python examples/token_auth.py``. A token is the user, the time until which it is good,
and a signature over both, so the server needs no list of tokens.
"""

from __future__ import annotations

import hmac
import secrets
import time
from typing import Any

from wse_sync import AuthRequest, WseClient, WsePermissionError, WseServer

KEY = secrets.token_bytes(32)  # known to who issues tokens and who checks them, nobody else


def sign(text: str) -> str:
    return hmac.new(KEY, text.encode(), "sha256").hexdigest()


def issue(user: str, lifetime: float) -> str:
    """A token for a user; in real life the page where they log in hands it out."""
    text = f"{user}:{time.time() + lifetime:.0f}"
    return f"{text}:{sign(text)}"


def read(token: Any) -> tuple[str, float] | None:
    """Whose token it is and until when; None if we have not signed it."""
    if not isinstance(token, str) or not token.isascii():
        return None
    text, _, signature = token.rpartition(":")
    # In constant time: how long it takes must not tell how much of a forgery is right.
    if not hmac.compare_digest(sign(text), signature):
        return None
    user, _, until = text.rpartition(":")
    return user, float(until)


def identify(auth: AuthRequest) -> None:
    known = read(auth.identity)
    if known is None:
        auth.refuse()
    else:
        user, until = known
        # Then the connection is closed. If that is over already, this refuses.
        auth.accept(user, f"welcome, {user}", expires_at=until)


def try_token(url: str, token: str) -> str:
    """How the server answers."""
    with WseClient(url) as client:
        try:
            return str(client.connect(token))
        except WsePermissionError:
            return "refused"


def main() -> None:
    with WseServer(identify, port=0) as server:
        token = issue("bob", lifetime=60.0)
        print("a good token:", try_token(server.url, token))
        print("another name on it:", try_token(server.url, token.replace("bob", "ann")))
        print("one that has run out:", try_token(server.url, issue("bob", lifetime=-1.0)))

        def fresh_token() -> str:
            print("ann gets a fresh token")
            return issue("ann", lifetime=60.0)

        # A function instead of a token: it is called before each attempt, so a client that lives
        # for months never comes back with a token that has run out.
        with WseClient(server.url, reconnect=True) as client:
            print(client.connect(fresh_token))
            print(client.jump(server.url))  # away and back: one more attempt


if __name__ == "__main__":
    main()
