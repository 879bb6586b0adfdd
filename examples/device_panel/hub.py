"""Between devices and pages: what devices report goes to every page, what pages want to devices.

Both are clients of the same application, but not alike: devices prove that they know a secret, and
one name is one device; pages have logged in with a password. So each kind has a socket of its own,
and nothing that a page can send is taken for the word of a device.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask, session

from wse_sync import (
    AuthRequest,
    WseConnection,
    WseConnectionError,
    WseError,
    WseServer,
    WseTimeoutError,
    challenges,
)
from wse_sync.flask import WseFlask

from .logins import Logins

KEPT = 600  # readings of a device; pages plot the last two minutes
SWITCH_TIMEOUT = 5.0  # s; somebody looks at a switch and waits


@dataclass
class Device:
    """What the panel knows of a device."""

    name: str
    lamp: bool = False
    pressed_at: float | None = None  # s since 1970, here and below
    readings: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))


class Hub:
    """The devices and their last words.

    Args:
        app: Gets two WebSockets: /ws for pages, /devices for devices.
        secrets: A folder with a file for each device: its name, and its secret inside.
        logins: Those of pages.
    """

    def __init__(self, app: Flask, secrets: Path, logins: Logins) -> None:
        self._secrets = secrets
        self._logins = logins
        self._devices: dict[str, Device] = {}
        # Held while something changes and is told, or a page is told everything: so every page
        # hears of all changes after what it was told at first, and in their order.
        self._telling = threading.Lock()

        self.pages = WseFlask(app, identify=self._identify_page, conn_per_user=50)
        self.pages.when.connected(self._page_connected)
        self.pages.register("switch", self._switch)

        # A device that goes silent is to be seen as away within ten seconds.
        self.devices = WseServer(
            self._identify_device,
            path="/devices",
            http_app=app.wsgi_app,
            ping_interval=5.0,
            ping_timeout=5.0,
        )
        app.wsgi_app = self.devices.wsgi_app  # type: ignore[method-assign]
        self.devices.use_challenge(lambda auth: challenges.quest())
        self.devices.channel.on("reading", self._reading)
        self.devices.channel.on("pressed", self._pressed)
        # Not joined and left: a device that was started again takes the place of the connection
        # that it has lost, and is the same client all the time.
        self.devices.when.connected(self._tell_state)
        self.devices.when.disconnected(self._tell_state)
        self.devices.when.suspended(self._tell_state)
        self.devices.when.resumed(self._tell_state)

    # Devices

    def _identify_device(self, auth: AuthRequest) -> None:
        secret = self._secret_of(auth.identity)
        asked = auth.challenge
        if secret and asked and challenges.check(secret, asked.quest, asked.response):
            auth.accept(auth.identity)
        else:
            auth.refuse()

    def _secret_of(self, name: Any) -> str | None:
        # One word: anything else might be a path that leads out of the folder.
        if not isinstance(name, str) or not name.isidentifier():
            return None
        file = self._secrets / name
        return file.read_text().strip() if file.is_file() else None

    def _tell_state(self, conn: WseConnection, *_: Any) -> None:
        self._note(conn.cid)

    def _reading(self, conn: WseConnection, values: dict[str, Any]) -> None:
        at, light = time.time(), float(values["light"])
        with self._telling:
            device = self._device(conn.cid)
            device.readings.append((at, light))
            device.lamp = bool(values["lamp"])
            self.pages.broadcast("reading", {**self._facts(device), "at": at, "light": light})

    def _pressed(self, conn: WseConnection, values: dict[str, Any]) -> None:
        self._note(conn.cid, pressed_at=time.time())

    def _device(self, name: str) -> Device:
        return self._devices.setdefault(name, Device(name))

    def _note(self, name: str, **changes: Any) -> None:
        """Changes what is known of a device, and tells the pages."""
        with self._telling:
            device = self._device(name)
            for what, value in changes.items():
                setattr(device, what, value)
            self.pages.broadcast("device", self._facts(device))

    def _facts(self, device: Device) -> dict[str, Any]:
        """All that is known of a device but the readings."""
        return {
            "name": device.name,
            "state": self._state_of(device.name),
            "lamp": device.lamp,
            "pressed_at": device.pressed_at,
        }

    def _state_of(self, name: str) -> str:
        """ "here", "gone", or "away": it has lost its link, and may come back."""
        states = [conn.state for conn in self._conns_of(name)]
        if not states:
            return "gone"
        return "here" if "open" in states else "away"

    def _conns_of(self, name: str) -> list[WseConnection]:
        client = self.devices.clients.get(name)
        return [] if client is None else [*client.conns.values()]

    # Pages

    def _identify_page(self, auth: AuthRequest) -> None:
        """Every page is a device of the same user, so one call tells them all."""
        if self._logins.has(session.get("login")):
            auth.accept("viewer")
        else:
            auth.refuse()

    def _page_connected(self, page: WseConnection) -> None:
        with self._telling:
            page.data["login"] = session["login"]
            if not self._logins.has(session["login"]):  # logged out since it was let in
                page.drop("panel.logged-out")
                return
            everything = [
                {**self._facts(device), "readings": list(device.readings)}
                for device in self._devices.values()
            ]
            with suppress(WseConnectionError):  # it has just gone
                page.send("devices", {"now": time.time(), "devices": everything})

    def log_out(self, login: str) -> None:
        """Ends a login, and the pages that were opened with it."""
        self._logins.end(login)
        with self._telling:
            for client in self.pages.clients.values():
                for page in client.conns.values():
                    if page.data.get("login") == login:
                        page.drop("panel.logged-out")

    def _switch(self, page: WseConnection, wanted: dict[str, Any]) -> bool:
        """Has a device switch its lamp; returns what the device says of it then.

        The page waits for the device: a call inside a call.
        """
        name = wanted["device"]
        # Not while its link is away: the call would wait, and light the lamp when nobody is there.
        conns = [conn for conn in self._conns_of(name) if conn.state == "open"]
        if not conns:
            raise WseError("panel.away")
        try:
            lamp = bool(conns[0].call("led", bool(wanted["on"]), timeout=SWITCH_TIMEOUT))
        except WseTimeoutError:
            raise WseError("panel.silent") from None
        except WseConnectionError:
            raise WseError("panel.away") from None
        self._note(name, lamp=lamp)
        return lamp
