"""Small file systems for single tests: ones that fill up, copy on write, have no permissions, or report an error."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers.needed import absent
from tests.servers.packages import needs, program


@contextmanager
def small_disk(directory: Path, size: str = "size=1m") -> Iterator[Path]:
    """A tmpfs mounted at `directory`. Skips the test where this process may not mount."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"{size},mode=700", "none", str(directory)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        absent("the right to mount")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def copying_disk(directory: Path, *, quota: str = "") -> Iterator[Path]:
    """A btrfs of 120 MiB, which copies on write; `quota` limits the subvolume inside it, which is yielded. Skips the
    test where this process may not mount, or the kernel has no btrfs."""
    needs("btrfs-progs")
    image = directory.with_name(f"{directory.name}.img")
    with image.open("wb") as file:
        file.truncate(120 * 1024 * 1024)
    subprocess.run([str(program("mkfs.btrfs")), "-q", str(image)], check=True)
    directory.mkdir()
    if subprocess.run(["mount", "-o", "loop", str(image), str(directory)], check=False).returncode != 0:
        absent("the right to mount, or btrfs")
    try:
        inside = directory / "inside"
        commands = [["subvolume", "create", str(inside)]]
        if quota:
            commands += [["quota", "enable", str(directory)], ["qgroup", "limit", quota, str(inside)]]
        for command in commands:
            subprocess.run([str(program("btrfs")), *command], check=True, stdout=subprocess.DEVNULL)
        yield inside
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
        image.unlink()


@contextmanager
def open_disk(directory: Path) -> Iterator[Path]:
    """An exFAT, as on a USB stick: owners and modes of files cannot be changed, and every user can read all of them.
    Skips the test where this process may not mount."""
    needs("exfat-fuse", "exfatprogs")
    image = directory.with_name(f"{directory.name}.img")
    with image.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    subprocess.run([str(program("mkfs.exfat")), str(image)], check=True, stdout=subprocess.DEVNULL)
    losetup = subprocess.run(["losetup", "--show", "--find", str(image)], capture_output=True, text=True, check=False)
    if losetup.returncode != 0:
        absent("the right to a loop device")
    device = losetup.stdout.strip()
    directory.mkdir()
    try:
        mount = [str(program("mount.exfat-fuse")), "-o", "umask=022", device, str(directory)]
        if subprocess.run(mount, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            absent("the right to mount")
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
        image.unlink()


@contextmanager
def hanging(disk: Path) -> Iterator[None]:
    """A disk of open_disk() whose program answers nothing meanwhile, as a network drive whose server is away."""
    (number,) = (
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and os.fsencode(disk) in _arguments(entry)
    )
    os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(number, signal.SIGCONT)


def _arguments(process: Path) -> list[bytes]:
    with suppress(OSError):  # it has ended
        return (process / "cmdline").read_bytes().split(b"\0")
    return []


@contextmanager
def failing_disk(directory: Path) -> Iterator[tuple[Path, Path]]:
    """An ext4 that is remounted read-only at the first error, as Debian mounts its own. Yields: its directory, and the
    kernel's file that triggers such an error when written to. Skips the test where this process may not mount."""
    image = directory.with_name(f"{directory.name}.img")
    with image.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    subprocess.run([str(program("mkfs.ext4")), "-q", str(image)], check=True)
    directory.mkdir()
    mount = ["mount", "-o", "loop,errors=remount-ro", str(image), str(directory)]
    if subprocess.run(mount, check=False).returncode != 0:
        absent("the right to mount")
    try:
        device = os.stat(directory).st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        yield directory, Path("/sys/fs/ext4", name, "trigger_fs_error")
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
        image.unlink()


@contextmanager
def full(store: Path, *, spared: int = 0) -> Iterator[None]:
    """Fill the store's disk except for `spared` octets; what is on it can still be read."""
    filler = store.with_name("filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
        if spared:  # on btrfs even a truncate that cuts nothing off needs more of the quota
            file.truncate(file.tell() - spared)
    yield
    filler.unlink()


@contextmanager
def without_places(store: Path) -> Iterator[None]:
    """Use up the disk's inodes: the store's files can still grow, but no file can be created."""
    fillers = list[Path]()
    try:
        while True:
            filler = store.with_name(f"filler {len(fillers)}")
            filler.touch()
            fillers.append(filler)
    except OSError:
        pass
    yield
    for filler in fillers:
        filler.unlink()
