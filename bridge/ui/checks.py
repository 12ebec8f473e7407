"""Names of the doctor's checks, in the reader's language: for the console's page and for the command."""

from __future__ import annotations

from typing import Final

from bridge.advice.said import said
from bridge.control.contract import Outcome
from bridge.ui.i18n import say

NAMES: Final = {
    "configuration": said("configuration"),
    "client secret": said("client secret"),
    "port": said("port"),
    "open files": said("open files"),
    "browser": said("browser"),
    "firewall": said("firewall"),
    "keyring": said("keyring"),
    "store": said("store"),
    "connection": said("connection"),
    "clock": said("clock"),
    "tenant": said("tenant"),
    "registration": said("app registration"),
    "certificate": said("certificate"),
    "os user": said("OS user"),
    "notify": said("notification program"),
    "workers": said("processes"),
    "token": said("sign-in"),
}


def check_name(name: str) -> str:
    """What the doctor looked at."""
    if name in {"imap log-in", "pop3 log-in", "smtp log-in"}:
        return say("{protocol} log-in").format(protocol=name[:4].upper())
    return NAMES[name].told(say) if name in NAMES else name


def outcome_word(outcome: Outcome) -> str:
    """How it went."""
    match outcome:
        case Outcome.OK:
            return say("ok")
        case Outcome.WARNING:
            return say("warning")
        case Outcome.FAILED:
            return say("failed")
        case Outcome.SKIPPED:
            return say("skipped")
