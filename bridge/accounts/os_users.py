"""Whether a caller is one of the OS users that an account is bound to (pure)."""

from __future__ import annotations

from bridge.config.schema import SAME_USER
from bridge.model import Account, Caller


def is_bound_to(account: Account, caller: Caller) -> bool:
    """True if the account is for this OS user's programs; False if the user is not known."""
    if not caller.user_id or caller.host:
        return False
    return any(_is_meant(wanted, account.address, caller) for wanted in account.os_users)


def why_not(account: Account, caller: Caller) -> str:
    """Why the caller is refused, for the log."""
    if not caller.user_id:
        return f"os_user: it cannot be known whose program this is: {caller.unknown}"
    return f"os_user: {account.address} is not for programs of {caller.named}"


def _is_meant(wanted: str, address: str, caller: Caller) -> bool:
    if wanted.casefold() == caller.user_id.casefold():
        return True
    if wanted == SAME_USER:
        wanted = address.rpartition("@")[0]
    if wanted.isdecimal():
        return False  # a number can only be a user id, which was compared above
    _, backslash, bare = caller.user.rpartition("\\")
    if not backslash:
        return wanted == caller.user  # on Unix, alice and Alice are two users
    return wanted.casefold() == (caller.user if "\\" in wanted else bare).casefold()
