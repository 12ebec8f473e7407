"""What the doctor's checks are called, in the reader's language: for the console's page and for the command."""

from __future__ import annotations

from bridge.control.contract import Outcome
from bridge.ui.i18n import say


def check_name(name: str) -> str:
    """What the doctor looked at."""
    match name:
        case "configuration":
            return say("configuration")
        case "client secret":
            return say("client secret")
        case "port":
            return say("port")
        case "open files":
            return say("open files")
        case "browser":
            return say("browser")
        case "firewall":
            return say("firewall")
        case "keyring":
            return say("keyring")
        case "store":
            return say("store")
        case "connection":
            return say("connection")
        case "clock":
            return say("clock")
        case "tenant":
            return say("tenant")
        case "registration":
            return say("app registration")
        case "certificate":
            return say("certificate")
        case "os user":
            return say("OS user")
        case "notify":
            return say("notification program")
        case "workers":
            return say("processes")
        case "token":
            return say("sign-in")
        case "imap log-in" | "pop3 log-in" | "smtp log-in":
            return say("{protocol} log-in").format(protocol=name[:4].upper())
    return name


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
