"""Both ends as Autobahn wants them: each message goes back as it came.

All below the frames of WSE is the real thing: the listener, the upgrade, transport, link, outbox.
"""

from __future__ import annotations

from collections.abc import Callable

from wse_sync import AuthRequest, WseClient, WseServer
from wse_sync.link import Link
from wse_sync.protocol import Data
from wse_sync.transport.base import Transport
from wse_sync.transport.dialed import NetworkDialer

__all__ = ["EchoServer", "echo", "read_all"]

TIMEOUT = 60.0  # s


class EchoServer(WseServer):
    """Sends back whatever comes; nobody is let in."""

    def __init__(self) -> None:
        super().__init__(AuthRequest.refuse, port=0, auth_timeout=None, ping_interval=None)

    def open_link(
        self,
        transport: Transport,
        on_data: Callable[[Data], None],
        on_lost: Callable[[int, str], None],
        on_fault: Callable[[int, str], None],
    ) -> Link:
        transport.max_message_bytes = self.max_message_bytes
        link = super().open_link(transport, lambda data: _send_back(link, data), on_lost, on_fault)
        return link


def _send_back(link: Link, data: Data) -> None:
    link.send(data, bounded=False)


def _run_client(url: str, on_data: Callable[[Link, Data], None]) -> None:
    """Lets what a client would dial run to its end."""
    client = WseClient(url, ping_interval=None)
    transport = NetworkDialer().dial(url, client.protocol.name, TIMEOUT, None, {"subprotocols": []})
    transport.max_message_bytes = client.max_message_bytes
    link = client.open_link(
        transport, lambda data: on_data(link, data), lambda *_: None, lambda *_: None
    )
    link.attach()
    link.run()


def echo(url: str) -> None:
    """Sends back whatever comes from there, until the end."""
    _run_client(url, _send_back)


def read_all(url: str) -> list[Data]:
    """What comes from there, until the end."""
    received: list[Data] = []
    _run_client(url, lambda link, data: received.append(data))
    return received
