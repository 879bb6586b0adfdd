"""A Flask application with a WebSocket, and a page for Prometheus.

Run it with ``flask --app metrics_app run``.
"""

from __future__ import annotations

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from wse_sync import AuthRequest
from wse_sync.flask import WseFlask
from wse_sync.prometheus import WseCollector

app = Flask(__name__)


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


wse = WseFlask(app, identify=identify)
collector = WseCollector(wse.of(app))
REGISTRY.register(collector)


@app.get("/metrics")
def metrics() -> Response:
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
