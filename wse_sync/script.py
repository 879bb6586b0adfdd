"""The client for browsers, as a file that the server hands out: a page needs one ``import``."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["answer", "is_asked_for"]

_NAME = "wse.js"


def is_asked_for(path: str | None, environ: dict[str, Any]) -> bool:
    """Whether a request is for the script.

    Args:
        path: Of the server's upgrades; the script is below it. None: of no path.
        environ: Of the request.
    """
    inner = environ.get("PATH_INFO", "")
    wanted = f"{(path or '').rstrip('/')}/{_NAME}"
    here = wanted in (inner, environ.get("SCRIPT_NAME", "") + inner)
    return here and environ["REQUEST_METHOD"] in ("GET", "HEAD")


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers with the script, or with 304 if the browser has it."""
    text, etag = _load()
    headers = [
        ("ETag", etag),
        # It has no version in its name: a browser asks each time, and gets 304 in most.
        ("Cache-Control", "no-cache"),
        # The same for everybody, and no secret: a page that is in ``origins`` may import it.
        ("Access-Control-Allow-Origin", "*"),
    ]
    if _is_known(etag, environ.get("HTTP_IF_NONE_MATCH", "")):
        start_response("304 Not Modified", headers)
        return []
    headers += [
        ("Content-Type", "text/javascript; charset=utf-8"),
        ("Content-Length", str(len(text))),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]


@functools.cache
def _load() -> tuple[bytes, str]:
    """The script and its strong ETag; read when somebody asks for it first."""
    import pkgutil  # takes longer than all of this, and a client needs none of it

    text = pkgutil.get_data("wse_sync", f"static/{_NAME}")
    assert text is not None  # a loader that has no data could not have loaded the package
    return text, f'"{hashlib.sha256(text).hexdigest()[:32]}"'


def _is_known(etag: str, condition: str) -> bool:
    """Whether If-None-Match names the ETag; it is compared weakly (RFC 9110, 13.1.2)."""
    tags = [tag.strip() for tag in condition.split(",")]
    return "*" in tags or etag in [tag.removeprefix("W/") for tag in tags]
