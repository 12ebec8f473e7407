"""First use: what the person and the mail program are told when the program comes with a password of its own."""

from __future__ import annotations

from collections.abc import Callable

from bridge.accounts.pending_logins import PendingLogins
from bridge.advice.diagnosis import Diagnosis
from bridge.errors import AuthorizationRequired
from bridge.model import Account
from bridge.notices import AuthorizationNeeded, NoticeBus


class FirstUse:
    """The person signs in, and says whether that program is theirs."""

    def __init__(self, logins: PendingLogins, bus: NoticeBus, sign_in_url: Callable[[str], str]) -> None:
        self._logins = logins
        self._bus = bus
        self._sign_in_url = sign_in_url

    def __call__(self, account: Account) -> AuthorizationRequired:
        """Tell the person, unless that was done recently. Returns: the error for the mail program."""
        url, wanted = self._sign_in_url(account.address), Diagnosis.of("sign_in.password")
        if self._logins.is_news(account.address):
            self._bus.publish(AuthorizationNeeded(account.address, url, wanted.told(), wanted))
        return AuthorizationRequired(account.address, url, wanted.told(), diagnosis=wanted)
