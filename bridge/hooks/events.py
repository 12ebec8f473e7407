"""Which notices scripts are told of, and what they are told (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Translate
from bridge.config.expiry import SecretExpiry
from bridge.notices import (
    AuthorizationEnded,
    AuthorizationNeeded,
    MailServerAnswered,
    Notice,
    RefreshFailed,
    SecretExpiring,
)

REASON_LIMIT = 1000
"""Characters; a provider's own words are among them."""


@dataclass(frozen=True, slots=True)
class HookEvent:
    """One fact that somebody has to act on; no secrets in it."""

    event: str
    account: str = ""
    provider: str = ""
    reason: str = ""
    url: str = ""
    """The console's page that helps; empty where none does."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables of a program."""
        return {f"MAIL_BRIDGE_{name.upper()}": value for name, value in self.content.items()}

    @property
    def content(self) -> dict[str, str]:
        """Each field by name: the webhook's JSON."""
        return asdict(self)


def event_of(notice: Notice, translate: Translate = str) -> HookEvent | None:
    """What scripts are told of a notice, with its reason in a person's language; None if nobody has to act."""

    def told(reason: str, diagnosis: Diagnosis | None) -> str:
        return _line(reason if diagnosis is None else diagnosis.told(translate))

    match notice:
        case AuthorizationNeeded(address, url, reason, diagnosis):
            return HookEvent("authorization-needed", account=address, reason=told(reason, diagnosis), url=url)
        case AuthorizationEnded(address, code, reason, diagnosis) if code != "cancelled":
            return HookEvent("authorization-ended", account=address, reason=told(reason, diagnosis))
        case RefreshFailed(address, reason, False, diagnosis):
            return HookEvent("refresh-failed", account=address, reason=told(reason, diagnosis))
        case MailServerAnswered(address, _, reason, False, diagnosis) if reason:
            return HookEvent("login-refused", account=address, reason=told(reason, diagnosis))
        case SecretExpiring(provider, day, days):
            secret = SecretExpiry(provider, date.fromisoformat(day), days)
            return HookEvent("secret-expiring", provider=provider, reason=told("", secret.diagnosis))
        case _:
            return None


def _line(text: str) -> str:
    """One printable line: scripts are careless, and an environment variable cannot hold a NUL."""
    return "".join(c if c.isprintable() else " " for c in text)[:REASON_LIMIT]
