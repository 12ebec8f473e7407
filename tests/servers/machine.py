"""A container under a real systemd: this machine's files, changes that vanish at its end, no network but loopback.

mail-bridge is in /opt/mail-bridge, as the guides have it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.needed import absent
from tests.servers.packages import needs, needs_root

SECONDS = 60.0
SOURCE = Path(__file__).parents[2]
PROGRAM = "/opt/mail-bridge/.venv/bin/mail-bridge"

OUTSIDE = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/root" "$1/cgroups"
mount -t cgroup2 cgroup2 "$1/cgroups"
mkdir "$1/cgroups/mail-bridge-$$"
(
  sh -c 'echo $PPID' > "$1/cgroups/mail-bridge-$$/cgroup.procs"
  exec unshare --pid --fork --kill-child --cgroup --uts --ipc --net --mount sh -ec "$2" sh "$1" "$3" "$4" "$5"
) || true
find "$1/cgroups/mail-bridge-$$" -depth -type d -exec rmdir {} +
"""
"""The script that stays outside, to remove the cgroups that systemd leaves behind. $1 is a directory, $2 the script
INSIDE, the rest are arguments of INSIDE."""

INSIDE = """
layer() {  # where, over what
  mkdir -p "$d/layers/$1/changes" "$d/layers/$1/work" "$root$1"
  mount -t overlay overlay -o "lowerdir=$2,upperdir=$d/layers/$1/changes,workdir=$d/layers/$1/work" "$root$1"
}
d="$1" root="$1/root"
layer / /
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
ip link set lo up
layer /opt/mail-bridge "$2"
layer /opt/mail-bridge/.venv "$3"
sed -i "1s|.*|#!/opt/mail-bridge/.venv/bin/python|" "$root/opt/mail-bridge/.venv/bin/mail-bridge"
rm -rf "$root"/opt/mail-bridge/.venv/lib/python*/site-packages/__editable__*
for site in "$root"/opt/mail-bridge/.venv/lib/python*/site-packages; do
  echo /opt/mail-bridge > "$site/mail-bridge.pth"
done
if [ -n "$4" ]; then
  ln -sf "$4" "$root/opt/mail-bridge/.venv/bin/python"
  sed -i "s|^home = .*|home = /usr/bin|" "$root/opt/mail-bridge/.venv/pyvenv.cfg"
fi
rm -rf "$root"/etc/systemd/system/*.wants "$root"/lib/systemd/system/*.wants "$root"/etc/rc?.d "$root/var/log/journal"
rm -rf "$root/etc/mail-bridge" "$root/var/lib/mail-bridge"
mkdir -p "$root/run/systemd/system"
for target in sysinit basic multi-user; do
  printf '[Unit]\\nDefaultDependencies=no\\nWants=dbus.socket systemd-journald.socket\\n' \
    > "$root/run/systemd/system/$target.target"
done
export container=test
exec chroot "$root" /lib/systemd/systemd --system --unit=multi-user.target
"""
"""The script that becomes the machine: a systemd that starts nothing but its log and D-Bus. $1 is the same directory,
$2 and $3 are those of the program and of the virtual environment, $4 is another interpreter for that environment,
needed where its own is in a home directory."""


class Machine:
    """Runs programs inside the machine as root."""

    def __init__(self, process: int) -> None:
        self._process = process
        """The process id of its systemd."""
        self.root = Path(f"/proc/{process}/root")
        """Its root directory, as a path that this process can open."""

    def run(self, *command: str, code: int | None = 0, typed: str = "", **environment: str) -> str:
        """Run a command. Returns: all that it printed. Args: code, the expected exit code, None for any; typed, its
        standard input."""
        inside = ["nsenter", f"--target={self._process}", "--all", "--root", "--wdns=/", *command]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            inside,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", **environment},
            timeout=SECONDS,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout
        return done.stdout


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """A machine that has started. Args: directory, an empty one that nothing else uses."""
    needs_root()
    needs("systemd", "iproute2", "passwd", "curl")
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "--pid", "true"]).returncode != 0:
        absent("the right to a mount namespace")
    outside = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", OUTSIDE, "sh"]
    outside += [str(directory), INSIDE, str(SOURCE), sys.prefix, _interpreter()]
    with subprocess.Popen(outside, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as shell:
        process = 0
        try:
            deadline = time.monotonic() + SECONDS
            while not (process := _systemd(shell.pid)):
                assert shell.poll() is None, shell.communicate()[0]
                assert time.monotonic() < deadline, "systemd did not start"
                time.sleep(0.02)
            found = Machine(process)
            while "running" not in found.run("systemctl", "is-system-running", code=None):
                assert time.monotonic() < deadline, found.run("systemctl", "--failed", "--no-pager", code=None)
                time.sleep(0.05)
            yield found
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process or shell.pid, signal.SIGKILL)


def _interpreter() -> str:
    """The system's Python of our version if ours is in a home directory, where no service of the machine can run it;
    otherwise an empty string."""
    if not any(Path(sys.base_prefix).is_relative_to(home) for home in ("/root", "/home")):
        return ""
    found = Path("/usr/bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    if not found.exists():
        absent(str(found))
    return str(found)


def _systemd(ancestor: int) -> int:
    """The descendant of `ancestor` that is systemd; 0 as long as there is none."""
    generation = [ancestor]
    while generation:
        for one in generation:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{one}/comm").read_text() == "systemd\n":
                    return one
        generation = [child for one in generation for child in _children(one)]
    return 0


def _children(process: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []
