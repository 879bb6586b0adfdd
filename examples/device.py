"""A device: a button, a lamp and a light sensor on a Raspberry Pi, online.

Run it with ``python examples/device.py NAME`` while device_hub.py runs; it needs gpiozero. The
button is at GPIO 2, the lamp at GPIO 17, and the sensor at channel 0 of an MCP3008. With ``--mock``
it runs on any machine: the pins are gpiozero's mock pins, and the hub may call ``press``.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from gpiozero import LED, MCP3008, Button, Device
from gpiozero.pins.mock import MockFactory

from wse_sync import WSE_STATUS, WseClient, WsePermissionError


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

    def press(self) -> None:
        """A finger, for mock pins."""
        self.button.pin.drive_low()
        self.button.pin.drive_high()


def make_client(url: str, board: Board) -> WseClient:
    client = WseClient(url, reconnect=True)
    client.when.updated(lambda status: print(status, flush=True))

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
    parser.add_argument("--mock", action="store_true", help="no hardware")
    options = parser.parse_args()
    if options.mock:
        Device.pin_factory = MockFactory()
    board = Board()
    with make_client(options.url, board) as client:
        if options.mock:
            client.register("press", lambda _: board.press())
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
