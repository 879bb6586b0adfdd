"""A device: a button, a lamp and a light sensor on a Raspberry Pi, online.

Run it with ``python examples/device.py NAME`` while device_hub.py runs; it needs gpiozero. The
button is at GPIO 2, the lamp at GPIO 17, and the sensor at channel 0 of an MCP3008. With ``--mock``
it runs on any machine: the pins are gpiozero's mock pins, clouds pass by, and Enter or a call of
``press`` presses the button. ``--secret-file`` is for hubs that want it proved who this is.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gpiozero import LED, MCP3008, Button, Device
from gpiozero.pins.mock import MockFactory

from wse_sync import WSE_STATUS, WseClient, WsePermissionError, challenges


class Board:
    """What is soldered to the pins."""

    def __init__(self) -> None:
        self.button = Button(2)
        self.lamp = LED(17)
        self.sensor = MCP3008(channel=0)

    def read(self) -> dict[str, Any]:
        return {
            "light": round(self.sensor.value, 2),
            "lamp": self.lamp.is_lit,
            "pressed": self.button.is_pressed,
        }


class MockBoard(Board):
    """The same without hardware. It has a finger, and a sky with clouds."""

    def __init__(self) -> None:
        Device.pin_factory = MockFactory()
        super().__init__()
        self.sensor = Sky(self.lamp)
        self._finger = threading.Lock()

    def press(self) -> None:
        with self._finger:  # or the second of two would press a button that is down
            self.button.pin.drive_low()
            self.button.pin.drive_high()

    def follow_keyboard(self) -> None:
        """Presses the button with each Enter, until Ctrl-D."""
        # Not sys.stdin: it has a lock, and the interpreter cannot end while a thread waits inside.
        with open(0, "rb", buffering=0, closefd=False) as keyboard:
            for _ in keyboard:
                self.press()


class Sky:
    """In place of the sensor: it sees passing clouds, and the lamp."""

    def __init__(self, lamp: LED) -> None:
        self._lamp = lamp
        self._began = random.uniform(0.0, 60.0)  # s; no two devices see the same clouds

    @property
    def value(self) -> float:
        now = self._began + time.monotonic()
        clouds = 0.12 * math.sin(now / 9) + 0.05 * math.sin(now / 2.3)
        return 0.4 + clouds + (0.3 if self._lamp.is_lit else 0.0)


def make_client(url: str, board: Board, secret: str | None = None) -> WseClient:
    client = WseClient(url, reconnect=True)
    client.when.updated(lambda status: print(status, flush=True))
    if secret is not None:
        client.challenge(challenges.solver(secret))

    @client.register("read")
    def read(_: Any) -> dict[str, Any]:
        return board.read()

    @client.register("led")
    def led(on: bool) -> bool:
        board.lamp.value = bool(on)
        return bool(board.lamp.is_lit)

    def pressed() -> None:
        # Nobody wants to hear of it later: what is sent without a link would wait for the next.
        if client.status is WSE_STATUS.READY:
            client.send("pressed", board.read())

    board.button.when_pressed = pressed
    return client


def main() -> int:
    parser = argparse.ArgumentParser(description="A device with a button, a lamp and a sensor.")
    parser.add_argument("name")
    parser.add_argument("--url", default="ws://127.0.0.1:8765/")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between readings")
    parser.add_argument("--secret-file", type=Path, help="what only this device and the hub know")
    parser.add_argument("--mock", action="store_true", help="no hardware")
    options = parser.parse_args()
    board = MockBoard() if options.mock else Board()
    secret = options.secret_file.read_text().strip() if options.secret_file else None
    with make_client(options.url, board, secret) as client:
        if isinstance(board, MockBoard):
            client.register("press", lambda _: board.press())
            threading.Thread(target=board.follow_keyboard, daemon=True).start()
        try:
            client.connect(options.name)
            # wait() is also a pause that ends early when the client is offline for good.
            while not client.wait(options.interval):
                if client.status is WSE_STATUS.READY:
                    client.send("reading", board.read())
        except WsePermissionError:
            print("the hub does not take this name")
        except KeyboardInterrupt:
            return 0
    return 1  # refused, or pushed out: trying again is for whoever started it to decide


if __name__ == "__main__":
    sys.exit(main())
