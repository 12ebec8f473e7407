"""What a provider's error answer means: one of our errors, with a diagnosis that says who must do what.

`error` and `suberror` decide which of our errors it is; for the explanation, advice.provider may know a more precise
row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from bridge.advice import provider
from bridge.advice.diagnosis import Diagnosis
from bridge.errors import (
    AuthorizationFailed,
    BridgeError,
    GrantInDoubt,
    GrantRevoked,
    ProviderRefused,
    ProviderUnavailable,
)
from bridge.oauth.retry_after import says_later
from bridge.secret import Secret

TEXT_LIMIT = 300
"""Characters of the provider's own text that we repeat: its sentence and, at Microsoft, the trace id."""

LONGEST_TEXT = 4096
"""Characters of each text of an error answer that we look at: what it means, and our secrets in it, are searched in the
event loop, where 250,000 characters took up to 0.2 s."""

_WHO_ARE_YOU = 401
_BY_STATUS = {400: "invalid_request", _WHO_ARE_YOU: "invalid_client", 403: "unauthorized_client"}
"""The error that a status stands for (RFC 9110 section 15.5) if the provider sends nothing else."""

NOTHING_THERE = frozenset({404, 405})
"""Statuses of an HTTP server that has no such resource, or takes no POST to it (RFC 9110 sections 15.5.5, 15.5.6)."""

_SAID_OF_TOKENS = {*provider.ENDED, *provider.TEMPORARY, *provider.REGISTRATION, "expired_token"} - {"invalid_request"}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error answer: from the token endpoint, or in the browser's redirect."""

    error: str
    description: str = ""
    suberror: str = ""
    codes: tuple[int, ...] = ()
    status: int = 400

    @classmethod
    def of(cls, answer: Mapping[str, Any], status: int = 400) -> Failure:
        """Read `error`, `error_description`, `suberror` (Google: `error_subtype`) and the AADSTS numbers."""
        description = _text(answer.get("error_description"))
        listed = answer.get("error_codes")
        codes = [code for code in listed if isinstance(code, int)] if isinstance(listed, list) else []
        codes += [int(number) for number in re.findall(r"AADSTS(\d{4,8})", description)]
        suberror = _text(answer.get("suberror")) or _text(answer.get("error_subtype"))
        return cls(_text(answer.get("error")), description, suberror, tuple(dict.fromkeys(codes)), status)

    @classmethod
    def by_status(cls, status: int, *, is_wordless: bool) -> Failure | None:
        """What an answer that is not JSON says by its status; None if nothing. A refusal with an empty body is taken
        for the provider's: Glewlwyd answers so to unknown refresh tokens and wrong secrets. A page may be anybody's,
        except with 401: that rejects our credentials, as Passport does in front of node's oauth2orize."""
        error = _BY_STATUS.get(status) if is_wordless or status == _WHO_ARE_YOU else None
        return cls(error, f"HTTP {status}", status=status) if error is not None else None

    @property
    def read_by_status(self) -> Failure:
        """The same for an answer in JSON. A 401 with only a framework's own error, such as Spring's `Unauthorized`, or
        with none, as from NestJS, means that our secret was refused before OAuth came into play."""
        if self.status != _WHO_ARE_YOU or self.error.lower() not in {"", "unauthorized"}:
            return self
        return replace(self, error=_BY_STATUS[self.status], description=self.description or f"HTTP {self.status}")

    @property
    def is_of_no_endpoint(self) -> bool:
        """True if nothing is at this URL, or something else: a framework or gateway says so in its own words, node's
        oidc-provider with `invalid_request`."""
        return self.status in NOTHING_THERE and self.error not in _SAID_OF_TOKENS

    @property
    def is_unknown_token(self) -> bool:
        """True if a token to be revoked is unknown there or has ended. By RFC 7009 section 2.2 that is no error, but
        some servers report one."""
        return self.error in {"invalid_token", "invalid_grant"}

    @property
    def is_of_ended_grant(self) -> bool:
        """True if only a new sign-in helps. For `invalid_request` with 401, which only one server sends, its text
        decides."""
        if (self.error, self.status) == ("invalid_request", _WHO_ARE_YOU):
            return self.description == provider.ENDED_TEXT
        return self.error in provider.ENDED

    @property
    def is_temporary(self) -> bool:
        """True if there is nothing to do but wait; the status counts first, because a gateway may add any body."""
        return (
            says_later(self.status)
            or self.error in provider.TEMPORARY
            or not provider.TEMPORARY_CODES.isdisjoint(self.codes)
        )


def not_signed_in(key: str, code: str) -> AuthorizationFailed:
    """The error for a sign-in that the adapter itself finds to have failed, by a row of the table of advice."""
    return AuthorizationFailed(code=code, diagnosis=Diagnosis.of(key))


def ended(key: str) -> GrantRevoked:
    """The error for a grant that the adapter itself finds to be unusable, by a row of the table of advice."""
    return GrantRevoked(diagnosis=Diagnosis.of(key))


def unreadable() -> GrantRevoked:
    """The error for a stored grant that cannot be read; only a new sign-in helps."""
    return ended("sign_in.unreadable")


def refresh_problem(
    failure: Failure, *, hide: Iterable[Secret[str]] = (), rows: Mapping[str, str] = provider.REGISTRATION
) -> BridgeError:
    """The error to raise when a refresh was answered with `failure`; `hide` never shows in its text.

    Args: rows, the rows of the table for errors that are not about a grant.
    """
    if failure.is_temporary:
        return ProviderUnavailable(diagnosis=_explained(failure, "oauth.temporary", hide))
    if failure.is_of_ended_grant and failure.suberror in provider.ADMIN_SUBERRORS:
        return ProviderRefused(diagnosis=_explained(failure, "oauth.policy", hide))
    if failure.is_of_ended_grant:
        return GrantRevoked(diagnosis=_explained(failure, "oauth.ended", hide))
    if failure.error in rows:
        diagnosis = _explained(failure, rows[failure.error], hide)
        kind = GrantInDoubt if diagnosis.key == GrantInDoubt.advice else ProviderRefused
        return kind(diagnosis=diagnosis)
    return ProviderUnavailable(diagnosis=_explained(failure, "oauth.unknown", hide))


def sign_in_problem(failure: Failure, *, hide: Iterable[Secret[str]] = ()) -> BridgeError:
    """The error to raise when a sign-in ended with `failure`: in the redirect, when redeeming the code, or when asking
    for a device code's tokens (RFC 8628 section 3.5: `authorization_pending` and `slow_down` are temporary)."""
    if failure.is_temporary:
        return ProviderUnavailable(diagnosis=_explained(failure, "oauth.temporary", hide))
    if failure.error in provider.SAID_NO:
        by_person = provider.DECLINED_CODES.issuperset(failure.codes)  # with another number, a policy said no
        code, default = ("denied", "oauth.declined") if by_person else ("provider", "oauth.policy")
        return AuthorizationFailed(code=code, diagnosis=_explained(failure, default, hide))
    if failure.error == "expired_token":
        return AuthorizationFailed(code="expired", diagnosis=_explained(failure, "device.expired", hide))
    if failure.error == "invalid_grant":
        spent = _explained(failure, "oauth.code_spent", hide, besides=provider.ABOUT_OLD_GRANTS)
        return AuthorizationFailed(code="provider", diagnosis=spent)
    if failure.error in provider.REGISTRATION:
        return ProviderRefused(diagnosis=_explained(failure, provider.REGISTRATION[failure.error], hide))
    return AuthorizationFailed(code="provider", diagnosis=_explained(failure, "oauth.not_completed", hide))


def app_only_row(failure: Failure) -> str:
    """The row of the table for an app's own sign-in (client credentials, service account) that was refused for good.

    There is no person whose grant could have ended: an administrator must mend it.
    """
    default = provider.REGISTRATION.get(failure.error, "app_only.refused")
    found = _explained(failure, default, (), besides={"google.ended", "microsoft.unused"})
    return provider.without_person(found.advice).key


def _explained(
    failure: Failure, default: str, hide: Iterable[Secret[str]], *, besides: AbstractSet[str] = frozenset()
) -> Diagnosis:
    """The most precise row that fits the error decided on, and the provider's own words.

    An explanation that contradicts the decision is left out: a gateway's 503 may carry the body of another answer, for
    which nobody has to sign in. Args: default, the row if nothing more is known; besides, rows that do not fit here.
    """
    found = provider.explanations(failure.error, failure.suberror, failure.codes, failure.description)
    fitting = (advice.key for advice in found if advice.is_temporary is failure.is_temporary)
    key = next((key for key in fitting if key not in besides), default)
    description = "" if failure.suberror in provider.MISLEADING else failure.description
    theirs = ": ".join(part for part in (failure.error, failure.suberror, description) if part)
    return Diagnosis(key, words=without_secrets(theirs, hide))


def without_secrets(text: str, hide: Iterable[Secret[str]] = ()) -> str:
    """One printable line of at most TEXT_LIMIT characters, without these secrets and anything that looks like one."""
    for secret in hide:
        if secret:
            text = text.replace(secret.reveal(), "…")
    text = re.sub(r"[\w.~+=-]{40,}", "…", text)  # longer than a GUID and than any word: a token or a piece of one
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:TEXT_LIMIT]


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    # Cut before a word: of a secret that was cut, without_secrets() would not know the rest.
    return value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT].rpartition(" ")[0]
