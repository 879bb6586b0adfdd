"""A Flask application behind a proxy: who connects, and how, is what that says."""

from __future__ import annotations

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

from wse_sync import AuthRequest
from wse_sync.flask import WseFlask

app = Flask(__name__)


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, [request.remote_addr, request.scheme])


wse = WseFlask(app, identify=identify)
app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
