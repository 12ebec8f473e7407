"""What is stored for an address without an account, and how a sign-out went, in words: for console and commands."""

from __future__ import annotations

from bridge.control.contract import Leftover, SignOut
from bridge.ui.i18n import say


def what_is_left(left: Leftover) -> str:
    """What is stored; to be shown behind the address."""
    if left.is_signed_in:
        return say("a sign-in and a local password") if left.has_password else say("a sign-in")
    return say("a local password, which no longer opens anything")


def removed(address: str, done: SignOut) -> str:
    """One sentence; grants that may still be valid at the provider are reported beside it."""
    if done.was_left:
        sentence = say("{address} is not in the configuration. Everything that was stored for it has been removed.")
    elif done.was_signed_in:
        sentence = say("The sign-in of {address} has been removed.")
    else:
        sentence = say("Nobody was signed in for {address}: there was nothing to remove.")
    return sentence.format(address=address)
