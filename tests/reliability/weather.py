"""Bad weather for a network: what becomes of the packets."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import partial

from tests.faults import CHUNK_BYTES, End, FaultProxy, Link

__all__ = ["CLEAR", "WEATHERS", "Weather", "WeatherProxy"]

PIECE_BYTES = 1400  # about a packet
TIMEOUT = 0.2  # s until TCP sends again what was lost, at first; it doubles


@dataclass(frozen=True)
class Weather:
    """What becomes of the packets of each direction.

    Attributes:
        loss: The share that is lost.
        delay: How long one is on its way, in seconds.
        jitter: So many seconds more at the most; one may overtake another.
        rate: Bytes a second.
    """

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    rate: float = math.inf

    def lag(self, chance: random.Random) -> float:
        """How long a packet is on its way, but for the rate."""
        return self.delay + self.jitter * chance.random()


CLEAR = Weather()
WEATHERS = {
    "20 % loss": Weather(loss=0.2, delay=0.005),
    "500 ms delay": Weather(delay=0.5),
    "reordering": Weather(delay=0.005, jitter=0.05),
    "1 KB/s": Weather(rate=1000.0),
}


class WeatherProxy(FaultProxy):
    """A proxy has no packets: each piece of the stream is held back for as long as TCP would.

    A lost packet is one that comes after a timeout. Nothing overtakes, since TCP mends that.
    """

    def __init__(self, target: str, seed: object) -> None:
        self.weather = CLEAR
        self._chance = random.Random(f"{seed}")
        super().__init__(target)

    def _may_read(self, link: Link) -> int:
        weather = self.weather
        return PIECE_BYTES if weather.loss or math.isfinite(weather.rate) else CHUNK_BYTES

    def _took(self, link: Link, count: int) -> None:
        for end in link.ends():
            if end.unsent and not end.held_back:
                end.held_back = True
                self._call_later(self._hold(count), partial(self._let, link, end))

    def _hold(self, count: int) -> float:
        weather, late = self.weather, 0.0
        while self._chance.random() < weather.loss:
            late += late + TIMEOUT
        return weather.lag(self._chance) + count / weather.rate + late

    def _let(self, link: Link, end: End) -> None:
        end.held_back = False
        if link in self._links:
            self._pump(link)
