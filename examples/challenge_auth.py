"""Logging in with a secret that never travels: the server asks, the client proves that it knows.

Run it with ``python examples/challenge_auth.py``. The quest is random, and the answer is its
HMAC-SHA256 under the secret; whoever records both learns nothing to log in with.
"""

from __future__ import annotations

from wse_sync import AuthRequest, WseClient, WsePermissionError, WseServer, challenges

SECRETS = {"kitchen": "correct horse", "cellar": "battery staple"}


def identify(auth: AuthRequest) -> None:
    name = str(auth.identity)
    secret = SECRETS.get(name)
    asked = auth.challenge
    if secret and asked and challenges.check(secret, asked.quest, asked.response):
        auth.accept(name, f"welcome, {name}")
    else:
        auth.refuse()


def log_in(url: str, name: str, secret: str) -> str:
    """How the server answers."""
    with WseClient(url) as client:
        client.challenge(challenges.solver(secret))
        try:
            return str(client.connect(name))
        except WsePermissionError:
            return "refused"


def main() -> None:
    with WseServer(identify, port=0) as server:
        server.use_challenge(lambda auth: challenges.quest())
        print("the right secret:", log_in(server.url, "kitchen", "correct horse"))
        print("a wrong secret:", log_in(server.url, "kitchen", "correct house"))
        print("the secret of another:", log_in(server.url, "kitchen", "battery staple"))
        print("an unknown name:", log_in(server.url, "attic", "correct horse"))


if __name__ == "__main__":
    main()
