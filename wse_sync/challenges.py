"""Challenge-response with a shared secret that never travels (HMAC-SHA256, RFC 2104).

The server draws a quest, the client answers with the keyed digest of it, and the server
compares in constant time. A quest is used once: whoever recorded an answer cannot use it again.

    server.use_challenge(lambda auth: challenges.quest())
    client.challenge(challenges.solver(secret))
    challenges.check(secret, auth.challenge.quest, auth.challenge.response)
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Union

from .checks import bad_type, bad_value

__all__ = ["check", "quest", "solve", "solver"]

Secret = Union[str, bytes]

_QUEST_BYTES = 32


def quest() -> str:
    """A fresh random quest: 256 bits as hexadecimal text."""
    return secrets.token_hex(_QUEST_BYTES)


def solve(secret: Secret, quest: str) -> str:
    """The answer to ``quest``: its HMAC-SHA256 under ``secret``, as hexadecimal text.

    Raises:
        WseValueError: The secret is empty.
        WseTypeError: The secret or the quest has another type.
    """
    if not isinstance(quest, str):
        raise bad_type(f"the quest must be str, not {type(quest).__name__}")
    data = quest.encode("utf-8", "surrogatepass")
    return hmac.new(_key(secret), data, "sha256").hexdigest()


def check(secret: Secret, quest: object, response: object) -> bool:
    """Whether ``response`` answers ``quest``; takes the same time for every wrong answer.

    Args:
        secret: The secret of the user who wants in.
        quest: What the server drew.
        response: What came back: anything at all, False if it is not even text.
    """
    if not isinstance(quest, str) or not isinstance(response, str):
        return False
    # bytes: compare_digest refuses text beyond ASCII, and surrogates would not encode.
    given = response.encode("utf-8", "surrogatepass")
    return hmac.compare_digest(solve(secret, quest).encode(), given)


def solver(secret: Secret) -> Callable[[str], str]:
    """A solver for :meth:`wse_sync.WseClient.challenge`."""
    key = _key(secret)
    return lambda quest: solve(key, quest)


def _key(secret: Secret) -> bytes:
    if not isinstance(secret, (str, bytes)):
        raise bad_type(f"the secret must be str or bytes, not {type(secret).__name__}")
    if not secret:
        raise bad_value("the secret is empty")
    return secret.encode() if isinstance(secret, str) else secret
