"""A chat in the browser: rooms, private messages, and who is here with how many devices.

Run it with ``flask --app examples/flask_chat run``; README.md says what it needs and shows.
"""

from .app import create_app

__all__ = ["create_app"]
