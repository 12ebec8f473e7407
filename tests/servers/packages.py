"""Debian packages that the tests use, and what happens if one of them is not installed.

Scripts import this file to install what is missing, possibly before pytest is there, so pytest is imported late.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

NOTIFIER: Final = "/usr/lib/*/xfce4/notifyd/xfce4-notifyd"
"""The tests start it by its path, because Debian keeps it out of the PATH."""

# For each package the program (or, with a slash, the file pattern) that shows it is installed.
_SIGNS: Final[dict[str, str]] = {
    "dovecot-core": "dovecot",
    "dovecot-imapd": "/usr/lib/dovecot/imap",
    "dovecot-pop3d": "/usr/lib/dovecot/pop3",
    "dovecot-lmtpd": "/usr/lib/dovecot/lmtp",
    "postfix": "postfix",
    "libsasl2-modules": "/usr/lib/*/sasl2/libplain.so",
    "isync": "mbsync",
    "msmtp": "msmtp",
    "swaks": "swaks",
    "libnet-ssleay-perl": "/usr/lib/*/perl5/*/Net/SSLeay.pm",
    "fetchmail": "fetchmail",
    "curl": "curl",
    "php-cli": "php",
    "php-imap": "/usr/lib/php/*/imap.so",
    "mono-mcs": "mcs",
    "mono-runtime": "mono",
    "default-jre-headless": "java",
    "libmail-java": "/usr/share/java/javax.mail.jar",
    "bsh": "/usr/share/java/bsh.jar",
    "s-nail": "s-nail",
    "libmail-imapclient-perl": "/usr/share/perl5/Mail/IMAPClient.pm",
    "libio-socket-ssl-perl": "/usr/share/perl5/IO/Socket/SSL.pm",
    "libauthen-sasl-perl": "/usr/share/perl5/Authen/SASL.pm",
    "ruby": "ruby",
    "php-symfony-mailer": "/usr/share/php/Symfony/Component/Mailer/autoload.php",
    "passwd": "useradd",
    "haproxy": "haproxy",
    "openssl": "openssl",
    "gnutls-bin": "gnutls-cli",
    "libnss3-tools": "tstclnt",
    "chromium": "chromium",
    "gnome-keyring": "gnome-keyring-daemon",
    "dbus": "dbus-run-session",
    "dbus-x11": "dbus-launch",
    "ca-certificates": "update-ca-certificates",
    "postgresql": "/usr/lib/postgresql/*/bin/initdb",
    "pgbouncer": "pgbouncer",
    "npm": "npm",
    "systemd": "systemd-analyze",
    "strace": "strace",
    "btrfs-progs": "mkfs.btrfs",
    "exfat-fuse": "mount.exfat-fuse",
    "exfatprogs": "mkfs.exfat",
    "sqlite3": "sqlite3",
    "iproute2": "ip",
    "gcc": "cc",
    "libc6-dev": "/usr/include/stdlib.h",
    "libssl-dev": "/usr/include/openssl/ssl.h",
    "libfaketime": "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "xvfb": "Xvfb",
    "trayer": "trayer",
    "xdotool": "xdotool",
    "xclip": "xclip",
    "xfce4-notifyd": NOTIFIER,
    "python3-gi": "/usr/lib/python3/dist-packages/gi/__init__.py",
    "gir1.2-gtk-3.0": "/usr/lib/*/girepository-1.0/Gtk-3.0.typelib",
    "gir1.2-ayatanaappindicator3-0.1": "/usr/lib/*/girepository-1.0/AyatanaAppIndicator3-0.1.typelib",
}
APT_PACKAGES: Final = tuple(_SIGNS)

NPM_LOCK: Final = Path(__file__).with_name("npm")
"""What the tests take from npm, each package pinned by its hash: axe-core, which finds accessibility problems of pages,
and an OpenID provider that is not ours. After a change of package.json, run in that directory:
`npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts`."""
NPM_PREFIX: Final = Path(__file__).resolve().parents[2] / ".venv"
_AXE_SCRIPT: Final = NPM_PREFIX / "node_modules" / "axe-core" / "axe.min.js"
_OPENID_PROVIDER: Final = NPM_PREFIX / "node_modules" / "oidc-provider" / "lib" / "index.js"

# Debian keeps daemons out of an ordinary user's PATH.
_SYSTEM_PROGRAMS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def program(name: str) -> Path | None:
    """The path of the program; None if it is not installed. A name with a slash is a file pattern from the root."""
    if "/" in name:
        return next(iter(sorted(Path("/").glob(name.lstrip("/")))), None)
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_PROGRAMS)))
    return Path(found) if found else None


def missing() -> list[str]:
    """Packages of `APT_PACKAGES` that are not installed, in that order."""
    return [package for package, sign in _SIGNS.items() if program(sign) is None]


def has_npm_packages() -> bool:
    """True once scripts/test.py has installed the packages of the lock; npm writes its hidden lock file at the end."""
    lock, hidden = NPM_PREFIX / "package-lock.json", NPM_PREFIX / "node_modules" / ".package-lock.json"
    return hidden.exists() and lock.exists() and lock.read_bytes() == (NPM_LOCK / lock.name).read_bytes()


def axe_core() -> Path:
    """The script; without it the calling test is skipped, or fails in CI, as by needs()."""
    return _from_npm(_AXE_SCRIPT, "axe-core")


def openid_provider() -> Path:
    """The module that node imports; skips or fails like axe_core()."""
    return _from_npm(_OPENID_PROVIDER, "oidc-provider")


def _from_npm(path: Path, package: str) -> Path:
    if not path.exists():
        _absent(f"{package} (scripts/test.py installs it, where there is npm)")
    return path


def needs(*names: str) -> None:
    """Skip the calling test or fixture unless these packages or programs are there.

    A laptop may lack some of them, and the reason shows in pytest's summary. In CI (the variable CI is set) it is a
    failure: there a skip would be a test that nobody runs and nobody misses.
    """
    lacking = [name for name in names if program(_SIGNS.get(name, name)) is None]
    if lacking:
        _absent(", ".join(lacking))


def needs_root() -> None:
    """Like needs(), for root: Postfix switches to its own users and starts only as root."""
    if os.geteuid() != 0:
        _absent("the right to start as root")


def _absent(what: str) -> None:
    from tests.servers.needed import absent  # imports pytest: see the docstring of this file

    absent(what)
