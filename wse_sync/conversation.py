"""The client's one connection: what of it outlives a link, and what waits for the next one.

Runs in whatever thread sends or finds out; the locks are those of the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connection import Connection
from .constants import RETRY_CODES, WSE_STATUS
from .core.delivery import Outgoing
from .link import Link

if TYPE_CHECKING:
    from .client import WseClient

__all__ = ["ClientConnection"]


class ClientConnection(Connection):
    """The client's one connection, with a ``repr`` for logs."""

    def __init__(self, client: WseClient) -> None:
        super().__init__(client, waits_for_room=True)
        self._client = client

    def _outlives(self, verdict: tuple[int, str] | None) -> bool:
        return self._client.reconnect and (verdict is None or verdict[0] in RETRY_CODES)

    def _crowded(self, link: Link) -> None:
        """Whoever sends next waits."""

    def _overrun(self) -> None:
        """Whoever wanted to send is told."""

    def _has_queue_room(self, frame: Outgoing) -> bool:
        if frame.is_answer:
            return True  # nobody can be told; the calls that are served are bounded themselves
        session = self.session
        fits = session.waiting_bytes + len(frame.data) <= self._client.max_queue_bytes
        return fits and session.waits_for_fewer(self._client.limits.max_frames)

    def _why_not_ready(self) -> str:
        if self._state == "suspended":
            limits = self._client.limits
            return (
                f"max_queue_bytes ({self._client.max_queue_bytes}) or resume_buffer_frames"
                f" ({limits.max_frames}) wait for a link already"
            )
        if self._client.status is WSE_STATUS.READY:
            return "the link has just been lost"
        return f"the client is {self._client.status}: connect() first"

    def __repr__(self) -> str:
        return repr(self._client)
