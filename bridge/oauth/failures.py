"""What a provider's error answer means: one of our errors, with a sentence that says who must do what.

`error` and `suberror` decide. Microsoft asks programs not to decide by its AADSTS numbers, so these only explain,
with two exceptions that both keep a grant: numbers that mean `later`.
Sources: RFC 6749 sections 4.1.2.1 and 5.2, OpenID Connect Core 3.1.2.6, Microsoft's and Google's lists of errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.errors import AuthorizationFailed, BridgeError, GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.secret import Secret

TEXT_LIMIT = 300
"""Characters of the provider's own text that we repeat: its sentence and, at Microsoft, the trace id."""

_TEMPORARY_ERRORS = frozenset(
    {
        "server_error",
        "temporarily_unavailable",
        "internal_failure",
        "slow_down",
        "rate_limit_exceeded",
        "quota_exceeded",
    }
)
_TEMPORARY_CODES = frozenset({90033, 90006, 90024, 50033, 50087, 50196})
"""Microsoft's `later`; 50196 is its loop protection, which ends by itself once we are quiet."""

_ENDED = frozenset({"invalid_grant", "interaction_required", "login_required", "consent_required"})
"""The grant is over, or the provider wants to see the person: only a sign-in helps."""

_ADMIN_SUBERRORS = frozenset({"message_only", "protection_policy_required"})
"""Microsoft: the person can do nothing. A policy (place, device, assignment) is in the way, and once it is not, the
same refresh token works again: so it is kept."""

_REGISTRATION = {
    "invalid_client": "The administrator must correct client_id and client_secret: the provider does not accept them.",
    "unauthorized_client": "The administrator must check the app registration: the provider does not know it, or does "
    "not allow it this kind of sign-in.",
    "deleted_client": "The app registration was deleted at the provider: the administrator must make a new one and put "
    "its client_id and client_secret into the configuration.",
    "disabled_client": "The app registration is disabled at the provider: the administrator must enable it.",
    "redirect_uri_mismatch": "The administrator must register the redirect URI exactly as the configuration has it.",
    "invalid_scope": "The administrator must correct `scopes`: the provider does not know one of them.",
    "invalid_resource": "The administrator must correct `scopes`: the provider does not know the service they name.",
    "invalid_request": "The provider finds the request wrong: the administrator must compare client_id, redirect_uri "
    "and the URLs with the registration.",
    "unsupported_grant_type": "The provider's token_url does not do this kind of sign-in: the administrator must check "
    "it.",
    "unsupported_response_type": "The provider does not do this kind of sign-in: the administrator must check "
    "authorization_url.",
    "invalid_tenant": "The tenant does not exist: the administrator must check it in the configuration.",
    "org_internal": "The app is for another organization only: the administrator must use a client of this one.",
    "admin_policy_enforced": "The organization does not allow this app: its Google Workspace administrator must trust "
    "it.",
    "access_denied": "The organization's rules forbid it: its administrator must act.",
}
"""Our registration or the organization's rules are at fault. None of these says anything about the grant."""

_SIGN_IN = "Sign in again, please."
_EXPLANATIONS: dict[int, str] = {}


def _explain(sentence: str, *codes: int) -> None:
    _EXPLANATIONS.update(dict.fromkeys(codes, sentence))


_explain(f"A second factor is asked for. {_SIGN_IN}", 50076, 50079, 50072, 50074, 50078)
_explain(f"Consent is missing. {_SIGN_IN} If that is not possible, the administrator must grant it.", 65001)
_explain("The sign-in was cancelled in the browser. Try it again.", 65004)
_explain("The administrator must grant consent to this app for the organization.", 90094, 90095)
_explain(f"The sign-in was not used for 90 days. {_SIGN_IN}", 70008, 700082)
_explain(f"The sign-in was ended (password changed, or sessions revoked). {_SIGN_IN}", 50173, 50132, 50133, 50089)
_explain(f"The organization asks for a new sign-in from time to time. {_SIGN_IN}", 70043)
_explain(
    "Conditional Access blocks this sign-in: the administrator must allow this app, device or place.",
    *(53000, 53001, 53002, 53003, 530032, 50131),
)
_explain("The administrator must assign this person to the app.", 50105)
_explain("The administrator must register the redirect URI exactly as the configuration has it.", 50011, 900971)
_explain(
    "The administrator must correct client_secret: it takes the secret's Value, not its Secret ID.",
    7000215,
)
_explain("The client secret has expired: the administrator must make a new one and put it in place.", 7000222)
_explain(
    "The app is registered as type Web, which needs a client_secret: the administrator must configure one.", 7000218
)
_explain(
    "The app is registered as a public client, which takes no client_secret: the administrator must remove it, "
    "or register the redirect URI as type Web.",
    700025,
)
_explain(
    "The redirect URI is registered as a single-page app: the administrator must register it as type Web.",
    *(700084, 9002327, 9002326),
)
_explain("The administrator must check client_id and tenant: this tenant does not know the app.", 700016, 90002, 50194)
_explain("This person is not in the app's tenant. Choose the work account in the browser.", 50020, 50034, 500208)
_explain(
    "The administrator must correct `scopes`, or add these permissions to the app.",
    *(70011, 700022, 28000, 28002, 28003, 650057, 500011),
)
_explain("The sign-in's answer was too old, or was used twice. Start the sign-in again.", 54005, 501481, 70000)
_explain("Microsoft asks this program to be quiet for a while. Nobody has to act.", 50196)
_explain("The account is locked, disabled, or its password has expired or is wrong.", 50053, 50055, 50057, 50126)
_explain("Microsoft has trouble of its own. Nobody has to act.", 90033, 90006, 90024, 50033, 50087)


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

    @property
    def is_temporary(self) -> bool:
        """True if waiting is all there is to do; the status counts first, since a gateway may add any body."""
        return (
            self.status >= 500
            or self.status in {408, 425, 429}
            or self.error in _TEMPORARY_ERRORS
            or not _TEMPORARY_CODES.isdisjoint(self.codes)
        )


def refresh_problem(failure: Failure, *, hide: Iterable[Secret[str]] = ()) -> BridgeError:
    """The error to raise when a refresh was answered with `failure`; `hide` never shows in its text."""
    if failure.is_temporary:
        return ProviderUnavailable(_words(failure, "The provider has trouble of its own. Nobody has to act.", hide))
    if failure.error in _ENDED and failure.suberror in _ADMIN_SUBERRORS:
        return ProviderRefused(_words(failure, _REGISTRATION["access_denied"], hide))
    if failure.error in _ENDED:
        if failure.suberror in {"invalid_rapt", "rapt_required"}:  # Google's text talks of a command line tool
            return GrantRevoked(f"The organization asks for a new sign-in from time to time. {_SIGN_IN}")
        return GrantRevoked(_words(failure, f"The provider has ended this sign-in. {_SIGN_IN}", hide))
    if failure.error in _REGISTRATION:
        return ProviderRefused(_words(failure, _REGISTRATION[failure.error], hide))
    return ProviderUnavailable(_words(failure, "The provider answers with an error that we do not know.", hide))


def sign_in_problem(failure: Failure, *, hide: Iterable[Secret[str]] = ()) -> BridgeError:
    """The error to raise when a sign-in ended with `failure`, in the redirect or when redeeming the code."""
    if failure.is_temporary:
        return ProviderUnavailable(_words(failure, "The provider has trouble of its own. Try again later.", hide))
    if failure.error == "access_denied":
        by_person = {65004}.issuperset(failure.codes)  # other numbers: a policy said no, not the person
        default = "The sign-in was declined in the browser. Try it again."
        return AuthorizationFailed(_words(failure, default, hide), code="denied" if by_person else "provider")
    if failure.error == "invalid_grant":
        default = "The sign-in's answer was too old, or was used twice. Start the sign-in again."
        return AuthorizationFailed(_words(failure, default, hide), code="provider")
    if failure.error in _REGISTRATION:
        return ProviderRefused(_words(failure, _REGISTRATION[failure.error], hide))
    return AuthorizationFailed(_words(failure, "The provider did not let this sign-in succeed.", hide), code="provider")


def _words(failure: Failure, default: str, hide: Iterable[Secret[str]]) -> str:
    """Our sentence, then the provider's own words in brackets."""
    known = next((_EXPLANATIONS[code] for code in failure.codes if code in _EXPLANATIONS), "")
    theirs = ": ".join(part for part in (failure.error, failure.suberror, failure.description) if part)
    theirs = without_secrets(theirs, hide)
    return f"{known or default} ({theirs})" if theirs else known or default


def without_secrets(text: str, hide: Iterable[Secret[str]] = ()) -> str:
    """One printable line of at most TEXT_LIMIT characters, without these secrets and without what looks like one."""
    for secret in hide:
        if secret:
            text = text.replace(secret.reveal(), "…")
    text = re.sub(r"[\w.~+=-]{40,}", "…", text)  # longer than a GUID and than any word: a token or a piece of one
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:TEXT_LIMIT]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
