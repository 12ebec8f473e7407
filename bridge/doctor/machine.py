"""What only the operating system can tell: asked through functions of the platform code, and what we make of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bridge.config.diff import configured_listeners
from bridge.config.provider import Flow
from bridge.config.schema import SAME_USER, Config
from bridge.control.contract import Finding
from bridge.doctor.findings import failed, ok, skipped, warning


@dataclass(frozen=True, slots=True)
class Holder:
    """The program that listens on a port, as far as the system tells us."""

    name: str = ""
    pid: int | None = None
    user: str = ""
    """Known where the program is another user's, about which Linux tells nothing else."""


class Telling(Enum):
    """For which connections the system tells us the user."""

    ALL = "all"
    OWN = "own"
    """Only those of programs of the user who runs mail-bridge."""
    INSIDE = "inside"
    """As OWN, because mail-bridge runs in a Linux user namespace."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Machine:
    """The calls may block for some seconds, and raise nothing."""

    holder_of: Callable[[int], Holder | None]
    """Who listens on this TCP port; None if nobody does, or the system does not tell."""
    excluded_ports: Callable[[], tuple[range, ...]]
    """Port ranges that Windows reserves (Hyper-V, WSL, Docker): nobody can listen there."""
    descriptor_limit: Callable[[], int | None]
    """Sockets and files that this process may have open; None where there is no such limit."""
    browser: Callable[[], str | None]
    """The default browser's name; None if there is none to start here."""
    tells_users: Callable[[], Telling]
    """For which connections the system tells the program's user, found by a trial now."""
    has_user: Callable[[str], bool | None]
    """Whether this OS user exists; None if that cannot be known."""
    has_program: Callable[[str], bool]
    """Whether a program of this name or path could be started."""
    answers: Callable[[str, int], bool]
    """Whether a program listens at this address of the machine's own."""
    is_on_network: Callable[[Path], bool]
    """Whether a file there is on a disk of another machine; False, too, where that cannot be known."""
    platform: str = sys.platform


MOST_NAMED = 5
"""Accounts that one sentence names."""
PER_SESSION = 2
"""Descriptors of a mail session: the mail program's and the mail server's."""
BESIDE = 64
"""Descriptors for everything else: listeners, the store, requests to providers."""
FEW_SESSIONS = 200
"""Some 40 people with a handful of connections each."""

ENOUGH = "{limit} open files and sockets: enough for about {sessions} mail sessions at once"
TOO_FEW = (
    "{limit} open files and sockets are enough for only about {sessions} mail sessions at once; for more people, raise "
    "the limit (`ulimit -n`, or LimitNOFILE= of the systemd unit)"
)
NO_LIMIT = "this system has no limit on open files that a program could run into"
BROWSER = "the default browser is {name}; it was found, not started"
NO_BROWSER = (
    "no browser can be started here (a service, or no desktop): people open the link of the sign-in page themselves, "
    "and on another computer `mail-bridge authorize ADDRESS --paste` helps"
)
NOBODY_SIGNS_IN = "nobody signs in in a browser with this configuration"
LOOPBACK_ONLY = "all ports are on loopback, which firewalls leave alone"
LOOPBACK_ON_WINDOWS = (
    "all ports are on loopback, which Windows' firewall leaves alone; a question about access at the first start can "
    "be answered with Cancel"
)
OPEN_TO_OTHERS = (
    "whether a firewall lets other machines reach {addresses} can only be tried from one of them; the firewall of this "
    "machine must allow it"
)
NOTIFY_FOUND = "the program of `notify` is there: {program}; it was not started"
NOTIFY_MISSING = (
    "the program of `notify` cannot be started: {program} does not exist, or is not a program. Write its whole path "
    "under `notify` in the configuration"
)

ON_NETWORK = (
    "{place} is on a network drive, where SQLite cannot keep two programs apart, and records may be damaged: name a "
    "file on a disk of this machine under `store.path`; for several machines, a database under `store.url`"
)

USERS_TOLD = "this system tells whose programs connect, so that `os_user` and the sign-in page work"
USERS_OWN = (
    "this system tells mail-bridge only about programs of the user who runs it: accounts with another `os_user` let "
    "nobody in. Run mail-bridge as a service"
)
USERS_INSIDE = (
    "mail-bridge runs in a user namespace (a container, or `PrivateUsers=` of systemd), where the system does not tell "
    "other users apart: accounts with another `os_user` let nobody in, and with `first-use` the sign-in page names "
    "nobody else. Run mail-bridge outside of it"
)
USERS_NOT_TOLD = (
    "this system does not tell whose programs connect: accounts with `os_user` let nobody in ({accounts}). Leave "
    "`os_user` out, or run mail-bridge on a system that does"
)
FIRST_USE_BLIND = (
    "this system does not tell whose programs connect: with `first-use` the sign-in page cannot say whose password it "
    "keeps"
)
FIRST_USE_OWN = (
    "this system tells mail-bridge only about programs of the user who runs it: with `first-use` the sign-in page "
    "names those, and no others"
)
NO_SUCH_USER = "this machine has no user called {user}, for whom `os_user` lets programs in"
FROM_ELSEWHERE = (
    "logins at {addresses} come from other machines, whose users cannot be known: accounts with `os_user` let nobody "
    "in there"
)


def user_findings(config: Config, machine: Machine) -> tuple[Finding, ...]:
    """Whether `os_user` and first-use can do what they are for; nothing where neither is in use. May block."""
    bound = [account for account in config.accounts if account.os_user]
    is_first_use = "first-use" in {config.local_password, *(account.local_password for account in config.accounts)}
    if not bound and not is_first_use:
        return ()
    found = [_telling(machine.tells_users(), [account.address for account in bound])]
    names = dict.fromkeys(name for account in bound for name in account.os_user if name != SAME_USER)
    for name in names:
        if machine.has_user(name) is False:
            found.append(failed("os user", name, NO_SUCH_USER, user=name))
    if bound and (addresses := _open_to_others(config)):
        found.append(skipped("os user", "", FROM_ELSEWHERE, addresses=addresses))
    return tuple(found)


def _telling(telling: Telling, bound: list[str]) -> Finding:
    if telling is Telling.ALL:
        return ok("os user", "", USERS_TOLD)
    if telling is Telling.INSIDE:
        return failed("os user", "", USERS_INSIDE)
    if telling is Telling.OWN and not bound:
        return ok("os user", "", FIRST_USE_OWN)
    if telling is Telling.OWN:
        return failed("os user", "", USERS_OWN)
    if bound:
        return failed("os user", "", USERS_NOT_TOLD, accounts=", ".join(bound[:MOST_NAMED]))
    return failed("os user", "", FIRST_USE_BLIND)


def store_findings(place: Path | None, machine: Machine) -> tuple[Finding, ...]:
    """Warns of a store's file on a network drive; says nothing of one on this machine's disk, or in no file. May block.

    Source: Write-Ahead Logging (sqlite.org), section 1: it does not work over a network file system.
    """
    if place is None or not machine.is_on_network(place):
        return ()
    return (warning("store", "", ON_NETWORK, place=place),)


def machine_findings(config: Config, machine: Machine) -> tuple[Finding, ...]:
    """Descriptors, browser, firewall, the program of `notify`. May block for some seconds."""
    return (
        _descriptors(config, machine),
        _browser(config, machine),
        _firewall(config, machine),
        *_notify(config, machine),
    )


def _descriptors(config: Config, machine: Machine) -> Finding:
    limit = machine.descriptor_limit()
    if limit is None:
        return skipped("open files", "", NO_LIMIT)
    sessions = config.workers * (max(limit - BESIDE, 0) // PER_SESSION)  # each worker has a limit of its own
    return ok("open files", "", ENOUGH if sessions >= FEW_SESSIONS else TOO_FEW, limit=limit, sessions=sessions)


def _browser(config: Config, machine: Machine) -> Finding:
    if all(provider.flow is not Flow.BROWSER for provider in config.providers.values()):
        return skipped("browser", "", NOBODY_SIGNS_IN)
    name = machine.browser()
    return skipped("browser", "", NO_BROWSER) if name is None else ok("browser", "", BROWSER, name=name)


def _firewall(config: Config, machine: Machine) -> Finding:
    if addresses := _open_to_others(config):
        return skipped("firewall", "", OPEN_TO_OTHERS, addresses=addresses)
    # Not "ok", because no firewall was asked.
    return skipped("firewall", "", LOOPBACK_ON_WINDOWS if machine.platform == "win32" else LOOPBACK_ONLY)


def _open_to_others(config: Config) -> str:
    """The addresses that other machines can reach: only ports for mail programs, since the console is never open to
    them."""
    return ", ".join(one.address.address for one in configured_listeners(config) if not one.address.is_local)


def _notify(config: Config, machine: Machine) -> tuple[Finding, ...]:
    """The program is only looked for, and not run: the doctor must not send anybody a notice."""
    if not config.notify.command:
        return ()
    program = config.notify.command[0]
    told, sentence = (ok, NOTIFY_FOUND) if machine.has_program(program) else (failed, NOTIFY_MISSING)
    return (told("notify", "", sentence, program=program),)
