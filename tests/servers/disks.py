"""Small disks of their own, for what happens when nothing more fits on one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.needed import absent
from tests.servers.packages import needs, program


@contextmanager
def small_disk(directory: Path, size: str = "size=1m") -> Iterator[Path]:
    """Made at this place; who may not mount skips the test."""
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
    """One with btrfs, which writes nothing over: of 120 MiB, of which what is in there may have as much as `quota`
    says. Who may not mount skips the test, and so does a kernel without btrfs."""
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
    """One with exFAT, as a stick has it: every file is every user's, and nothing changes that. Who may not mount skips
    the test."""
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
def failing_disk(directory: Path) -> Iterator[tuple[Path, Path]]:
    """One with ext4, as Debian mounts its own: at the first error it is read-only. Returns: its place, and the file of
    the kernel's that takes a word for such an error. Who may not mount skips the test."""
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
    """Nothing more fits on the store's disk, but for `spared` octets; what is there can be read."""
    filler = store.with_name("filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
        if spared:  # btrfs wants more of a quota even to cut nothing off
            file.truncate(file.tell() - spared)
    yield
    filler.unlink()


@contextmanager
def without_places(store: Path) -> Iterator[None]:
    """There is room on the store's disk, but none for another file."""
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
