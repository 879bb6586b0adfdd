"""A wire between two hosts, for packets: the TCP of the kernel at both ends, any weather between.

A host is a network namespace of its own, with a TUN device in it; the wire carries packets from one
device to the other. Nothing outside is touched, and nothing is left: namespaces live as long as the
threads and sockets in them. It takes root's rights, and /dev/net/tun.

A thread is in the namespace of the thread that started it, and a socket in that of the thread that
made it. So what a host runs, and what that starts, is in there.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import os
import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.reliability.weather import CLEAR, Weather

__all__ = ["Host", "Wire"]

T = TypeVar("T")

PATIENCE = 60.0  # s; only bounds a failure
PACKET_BYTES = 2048  # more than the devices' MTU
QUEUE_BYTES = 20_000  # that wait for a slow wire; what comes on top is lost
NETMASK = "255.255.255.0"
DEVICE = b"wse0"

# From the headers of Linux: sched.h, if_tun.h, sockios.h, if.h.
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFFLAGS = 0x8916, 0x891C, 0x8914
IFF_UP, IFF_RUNNING = 0x1, 0x40


class Host:
    """A network namespace, and the thread that is in it.

    Raises:
        OSError: The machine does not allow it.
    """

    def __init__(self, address: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        try:
            #: The descriptor that its packets come out of, and go into.
            self.device = self.run(_enter)
            self.move(address)
        except OSError:
            self._thread.shutdown()
            raise

    def run(self, function: Callable[[], T]) -> T:
        """Runs it on this host, and returns what it returns."""
        return self._thread.submit(function).result(PATIENCE)

    def move(self, address: str) -> None:
        """Gives it another address; the old one is no longer its own."""
        self.run(lambda: _be(address))

    def close(self) -> None:
        self._thread.shutdown()
        os.close(self.device)


def _enter() -> int:
    """Leaves the network for one of its own; the device that leads out of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"no network namespace: {os.strerror(error)}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", DEVICE, IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(device)
        raise
    return device


def _be(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, NETMASK)):
            packed = socket.inet_aton(value)
            data = struct.pack("16sHH4s8x", DEVICE, socket.AF_INET, 0, packed)
            fcntl.ioctl(any_socket, request, data)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", DEVICE, IFF_UP | IFF_RUNNING))


class _Way:
    """One direction. All of it is the wire's thread's, but for what a test sets."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.silent = False
        self.free_at = 0.0  # when a slow wire has sent what waits
        self.last = -1  # the number of the latest packet that came through


class Wire:
    """Two hosts and what is between them; one thread carries the packets.

    Args:
        near: The address of one.
        far: Of the other, in the same network.
        seed: Of the weather.

    Raises:
        OSError: The machine does not allow it.
    """

    def __init__(self, near: str, far: str, seed: object) -> None:
        self.near = Host(near)
        try:
            self.far = Host(far)
        except OSError:
            self.near.close()
            raise
        self.weather: Weather = CLEAR
        self.packets = self.lost = self.overtaken = 0
        self._chance = random.Random(f"{seed}")
        self._there = _Way(self.near.device, self.far.device)
        self._back = _Way(self.far.device, self.near.device)
        self._sent: list[tuple[float, int, _Way, bytes]] = []
        self._numbers = itertools.count()
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)
        self._thread.start()

    def silence(self, *, there: bool = True, back: bool = True) -> None:
        """From now on nothing comes through in these directions, not even what is on its way.

        Args:
            there: From near to far.
            back: From far to near.
        """
        self._there.silent, self._back.silent = there, back

    def close(self) -> None:
        """Ends both hosts, and what they have open."""
        os.close(self._ended)
        self._thread.join(PATIENCE)
        os.close(self._end)
        self.near.close()
        self.far.close()

    # The thread

    def _carry(self) -> None:
        with selectors.DefaultSelector() as selector:
            for way in (self._there, self._back):
                selector.register(way.source, selectors.EVENT_READ, way)
            selector.register(self._end, selectors.EVENT_READ)
            while True:
                pause = max(0.0, self._sent[0][0] - time.monotonic()) if self._sent else None
                for key, _ in selector.select(pause):
                    if key.data is None:
                        return
                    self._take(key.data)
                self._deliver()

    def _take(self, way: _Way) -> None:
        packet = os.read(way.source, PACKET_BYTES)
        if packet[0] >> 4 != 4:
            return  # IPv6 introduces itself wherever it can
        self.packets += 1
        weather, now = self.weather, time.monotonic()
        waiting = (way.free_at - now) * weather.rate if way.free_at > now else 0.0
        if self._chance.random() < weather.loss or waiting > QUEUE_BYTES:
            self.lost += 1
            return
        way.free_at = max(now, way.free_at) + len(packet) / weather.rate
        due = way.free_at + weather.lag(self._chance)
        heapq.heappush(self._sent, (due, next(self._numbers), way, packet))

    def _deliver(self) -> None:
        while self._sent and self._sent[0][0] <= time.monotonic():
            _, number, way, packet = heapq.heappop(self._sent)
            if way.silent:
                self.lost += 1
                continue
            self.overtaken += number < way.last
            way.last = max(way.last, number)
            os.write(way.target, packet)
