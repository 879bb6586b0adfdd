"""A page that shows devices as they are at the moment, and switches their lamps.

Run it with ``flask --app examples/device_panel run``; README.md says what it needs and shows.
"""

from .app import create_app

__all__ = ["create_app"]
