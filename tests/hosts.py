"""A WSGI server for tests, in this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from werkzeug.serving import make_server

from tests.support import PATIENCE

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@contextlib.contextmanager
def werkzeug_serving(app: WSGIApplication, path: str = "") -> Iterator[str]:
    """Serves the application with Flask's development server; its `ws:` URL, with `path`."""
    listener = make_server("127.0.0.1", 0, app, threaded=True)
    # It looks so often whether it is to end.
    serve = partial(listener.serve_forever, poll_interval=0.01)
    thread = threading.Thread(target=serve, name="werkzeug", daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listener.server_port}{path}"
    finally:
        listener.shutdown()
        thread.join(PATIENCE)
        listener.server_close()
