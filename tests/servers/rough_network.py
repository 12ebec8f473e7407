"""Two network namespaces and the wire between them, which loses, delays and reorders packets, or is unplugged.

A thread of the test does what `tc netem` would do: it reads the packets of one TUN device and writes them to the other.
So it works the same on every kernel (sch_netem is often not built), needs nothing of the machine's own network, and
ends with the process. The namespaces have no name; threads enter them by descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.servers.needed import absent

NEAR: Final = "10.77.0.1"
FAR: Final = "10.77.0.2"
NEAR_6: Final = "fd77::1"
FAR_6: Final = "fd77::2"
CLONE_NEWNET: Final = 0x40000000
TUNSETIFF: Final = 0x400454CA
IFF_TUN_NO_PI: Final = 0x1001
POLL: Final = 0.02


@dataclass
class RoughNetwork:
    """The bridge's side is `near`, the servers' is `far`. All attributes may be changed from any thread."""

    near_namespace: int
    far_namespace: int
    chance: random.Random
    loss: float = 0.0
    """The fraction of packets that never arrive."""
    delay: float = 0.0
    jitter: float = 0.0
    """Seconds: each packet takes `delay` and up to this much more, so some packets arrive out of order."""
    is_plugged: bool = True
    has_ipv6: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    """passed, lost, late (overtaken), lost6."""

    @contextmanager
    def near(self) -> Iterator[None]:
        """The calling thread, and the threads and programs that it starts, are on the bridge's side."""
        with _entered(self.near_namespace):
            yield

    @contextmanager
    def far(self) -> Iterator[None]:
        """On the servers' side."""
        with _entered(self.far_namespace):
            yield

    def fate(self, packet: bytes) -> float | None:
        """Seconds on the way; None if it does not arrive."""
        is_ipv6 = packet[0] >> 4 == 6
        if not self.is_plugged or self.chance.random() < self.loss or (is_ipv6 and not self.has_ipv6):
            self.counts["lost6" if is_ipv6 else "lost"] += 1
            return None
        self.counts["passed"] += 1
        return self.delay + self.chance.random() * self.jitter


@contextmanager
def rough_network(seed: int) -> Iterator[RoughNetwork]:
    """Runs until the context ends. Without the privileges for it the calling test is skipped, or fails in CI."""
    if shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        absent("iproute2")
    ends = []
    try:
        for addresses in ((NEAR, NEAR_6), (FAR, FAR_6)):
            ends.append(_end_of_the_wire(*addresses))
    except OSError as problem:
        absent(f"the right to a network namespace and a TUN device ({problem})")
    (near_namespace, near), (far_namespace, far) = ends
    network = RoughNetwork(near_namespace, far_namespace, random.Random(seed))
    over = threading.Event()
    wire = threading.Thread(target=_carry, args=(network, near, far, over), daemon=True)
    wire.start()
    try:
        yield network
    finally:
        over.set()
        wire.join(5)
        for descriptor in (near, far, near_namespace, far_namespace):
            os.close(descriptor)


def _carry(network: RoughNetwork, near: int, far: int, over: threading.Event) -> None:
    """The wire."""
    under_way: list[tuple[float, int, int, bytes]] = []
    number, newest = 0, {near: 0, far: 0}
    while not over.is_set():
        wait = POLL if not under_way else min(POLL, max(0.0, under_way[0][0] - time.monotonic()))
        for source in select.select([near, far], [], [], wait)[0]:
            packet = os.read(source, 65536)
            if (seconds := network.fate(packet)) is not None:
                number += 1
                sink = far if source == near else near
                heapq.heappush(under_way, (time.monotonic() + seconds, number, sink, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, its_number, sink, packet = heapq.heappop(under_way)
            network.counts["late"] += its_number < newest[sink]
            newest[sink] = max(newest[sink], its_number)
            with contextlib.suppress(OSError):
                os.write(sink, packet)


def _end_of_the_wire(address: str, address_6: str) -> tuple[int, int]:
    """A new namespace with a TUN device in it. Returns: descriptors of both."""
    found: list[tuple[int, int]] = []
    problems: list[BaseException] = []

    def make() -> None:
        try:
            _call("unshare", CLONE_NEWNET)
            tun = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"wire", IFF_TUN_NO_PI))
            for command in (
                "link set lo up",
                f"addr add {address}/24 dev wire",
                f"addr add {address_6}/64 dev wire nodad",
                "link set wire up",
            ):
                subprocess.run(["ip", *command.split()], check=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})
            found.append((os.open("/proc/thread-self/ns/net", os.O_RDONLY), tun))
        except (OSError, subprocess.CalledProcessError) as problem:
            problems.append(problem)

    thread = threading.Thread(target=make)  # a separate thread, because unshare() moves only the calling thread
    thread.start()
    thread.join()
    if problems:
        raise OSError(str(problems[0]))
    return found[0]


@contextmanager
def _entered(namespace: int) -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _call("setns", namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", before, CLONE_NEWNET)
    finally:
        os.close(before)


def _call(name: str, *arguments: int) -> None:
    """Call a function of the C library; Python has these two (`unshare`, `setns`) only since 3.12."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
