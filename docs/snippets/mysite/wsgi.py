"""The WSGI application of the project: the WebSocket at /ws, Django everywhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Callable

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
pages = get_wsgi_application()

from .live import server  # noqa: E402  (its models are there only now)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    is_live = f"{environ['PATH_INFO']}/".startswith("/ws/")
    answer = server.wsgi_app if is_live else pages
    return answer(environ, start_response)
