"""Maps OAuth errors, suberrors, AADSTS numbers and Google's texts to rows of the table.

`error` and `suberror` decide what happens to a grant (oauth.failures does that, by the sets in here). Microsoft asks
programs not to decide by its AADSTS numbers, and Google's descriptions have changed before. So both only choose a
better sentence, except for TEMPORARY_CODES, which keep a grant, DECLINED_CODES and ENDED_TEXT.
Sources: RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5, OpenID Connect Core 3.1.2.6, docs/quirks.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bridge.advice.base import Advice
from bridge.advice.table import ADVICE

TEMPORARY: Final[Mapping[str, str]] = {
    "server_error": "oauth.temporary",
    "temporarily_unavailable": "oauth.temporary",
    "internal_failure": "oauth.temporary",
    "rate_limit_exceeded": "oauth.temporary",
    "quota_exceeded": "oauth.temporary",
    "slow_down": "device.slow_down",
    "authorization_pending": "device.pending",
}
"""OAuth errors that mean: repeat the same request later."""

TEMPORARY_CODES: Final = frozenset({90033, 90006, 90012, 90024, 90055, 90090, 50033, 50087, 50196, 70012})
"""Microsoft's codes for "later", whatever `error` comes with them; 50196 is its loop protection, which ends once we
pause."""

ENDED: Final = frozenset({"invalid_grant", "interaction_required", "login_required", "consent_required"})
"""The grant is over, or the provider wants to see the person: only a sign-in helps."""

ENDED_TEXT: Final = "The refresh token is invalid."
"""The only sign of an ended grant where league/oauth2-server (PHP; Laravel Passport until version 12) says
`invalid_request` for it, with HTTP 401, which no other `invalid_request` of its has. Since version 9 it says
`invalid_grant`."""

ADMIN_SUBERRORS: Final = frozenset({"message_only", "protection_policy_required"})
"""Microsoft: the person can do nothing. A policy (place, device, assignment) is in the way. Once it no longer is, the
same refresh token works again, and so the token is kept."""

REGISTRATION: Final[Mapping[str, str]] = {
    "invalid_client": "oauth.invalid_client",
    "unauthorized_client": "oauth.unauthorized_client",
    "deleted_client": "google.deleted_client",
    "disabled_client": "google.disabled_client",
    "redirect_uri_mismatch": "oauth.redirect_uri",
    "invalid_scope": "oauth.scope",
    "invalid_resource": "oauth.scope",
    "invalid_target": "oauth.scope",  # RFC 8707
    "invalid_request": "oauth.invalid_request",
    "unsupported_grant_type": "oauth.unsupported_grant",
    "unsupported_response_type": "oauth.unsupported_response",
    "invalid_tenant": "oauth.tenant",
    "invalid_dpop_proof": "oauth.dpop",  # RFC 9449, which we do not implement
    "use_dpop_nonce": "oauth.dpop",
    "org_internal": "google.org_internal",
    "admin_policy_enforced": "google.admin_policy",
    "access_denied": "oauth.policy",
}
"""Our registration or the organization's rules are at fault. None of these says anything about the grant."""

REFRESHING: Final[Mapping[str, str]] = {
    **REGISTRATION,
    "invalid_request": "oauth.refresh_wrong",
    "INVALID_REFRESH_TOKEN": "oauth.refresh_wrong",
}
"""The same for the refresh of a person's grant at any server (RFC 6749). LemonLDAP::NG says only `invalid_request` of a
refresh token that it no longer knows; with others that error concerns everybody, so no grant is given up for it. Nor is
one for Yahoo's own word, which is known from one log, beside "Failed to decode/encode refresh token"."""

SAID_NO: Final = frozenset({"access_denied", "consent_required"})
"""Errors with which a sign-in ends if the person declines; the second is LemonLDAP::NG's. OpenID Connect Core 3.1.2.6
has it for requests in which nobody may be asked (`prompt=none`), which we never send."""

DECLINED_CODES: Final = frozenset({65004})
"""If it was the person who declined, Microsoft's `access_denied` comes with this number, or with none."""

_SUBERRORS: Final[Mapping[str, str]] = {
    "invalid_rapt": "google.reauthentication",
    "rapt_required": "google.reauthentication",
}

MISLEADING: Final = frozenset(_SUBERRORS)
"""Suberrors with which Google's own text talks of a command line tool that nobody here has: it is not repeated."""

_CODES: Final[tuple[tuple[str, tuple[int, ...]], ...]] = (
    ("microsoft.second_factor", (50076, 50079, 50072, 50074, 50078, 50158)),
    ("microsoft.consent", (65001,)),
    ("microsoft.cancelled", (65004,)),
    ("microsoft.admin_consent", (90094, 90095, 650051)),
    ("microsoft.unused", (70008, 700082)),
    ("microsoft.revoked", (50173, 50132, 50133, 50089)),
    ("microsoft.frequency", (70043, 70044)),
    (
        "microsoft.conditional_access",
        (53000, 53001, 53002, 53003, 53004, 53010, 53011, 530032, 50005, 50131),
    ),
    ("mail.security_defaults", (530035,)),
    ("microsoft.device", (50097, 50129, 50155, 50187, 135011, 530002, 530003, 700003)),
    ("microsoft.assignment", (50105,)),
    ("microsoft.redirect_uri", (50011, 900971, 500113)),
    ("microsoft.wrong_secret", (7000215,)),
    ("microsoft.secret_expired", (7000222,)),
    ("microsoft.secret_missing", (7000218,)),
    ("microsoft.public_client", (700025,)),
    ("microsoft.single_page", (700084, 9002327, 9002326)),
    ("microsoft.certificate", (700027, 700030, 1000502, 7000214, 7000274, 7000277)),
    ("microsoft.clock", (700024,)),
    ("microsoft.unknown_app", (700016, 700011)),
    ("microsoft.app_disabled", (7000112,)),
    (
        "microsoft.tenant",
        (90002, 50059, 50194, 90038, 90124, 90130, 900382, 900432, 9001023, 9002331, 9002332, 9002346, 700005),
    ),
    ("microsoft.other_tenant", (50020, 50034, 500208, 90072, 16000, 16003, 50014, 51004)),
    ("oauth.deleted", (500341,)),
    ("microsoft.scope", (70011, 700022, 28000, 28002, 28003, 65005, 650053, 650054, 650056, 650057, 500011)),
    ("microsoft.no_exchange", (650052, 500014)),
    ("microsoft.not_valid", (54005, 501481, 70000)),
    ("microsoft.loop", (50196,)),
    ("microsoft.locked", (50053,)),
    ("microsoft.password", (50055, 50126, 50135, 50144)),
    ("microsoft.disabled", (50057,)),
    ("microsoft.temporary", (90033, 90006, 90012, 90024, 90055, 90090, 50033, 50087, 70012)),
)

_BY_CODE: Final = {code: ADVICE[key] for key, codes in _CODES for code in codes}

_APP_ONLY: Final[Mapping[str, str]] = {
    "microsoft.consent": "app_only.consent",
    "microsoft.admin_consent": "app_only.consent",
    "microsoft.not_valid": "app_only.refused",
    "oauth.unauthorized_client": "google.delegation",
}
"""Where no person signs in, the same answer means something else; the last one is Google's."""

ABOUT_OLD_GRANTS: Final = frozenset({"google.ended", "microsoft.unused", "microsoft.not_valid"})
"""Rows for what providers say of a refresh token and of an authorization code alike. For a code, which lives for
minutes, it only means that the code was too old or already used."""

_TEXTS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), ADVICE[key])
    for pattern, key in (
        (r"^(?:token has been expired or revoked|bad request)\.?$", "google.ended"),
        (r"\baccount has been deleted\b", "oauth.deleted"),
        (r"\binvalid (?:email or user id|impersonation)\b", "google.no_such_user"),
        (r"\binvalid jwt signature\b", "google.key"),
        (r"\binvalid jwt: token must be a short-lived\b", "google.clock"),
        (r"oauth 2\.0 policy|app is blocked", "google.app_policy"),
        (r"\binvalid client credentials\b", "oauth.invalid_client"),
    )
)
"""Descriptions in which Google says more than its `error` does; the last is Keycloak's, for a wrong secret, beside
`unauthorized_client`."""


def explanations(error: str, suberror: str, codes: Iterable[int], description: str) -> Iterator[Advice]:
    """What is known beyond `error`, the most specific first. May be empty, and may not fit what was decided."""
    yield from (_BY_CODE[code] for code in codes if code in _BY_CODE)
    if suberror in _SUBERRORS:
        yield ADVICE[_SUBERRORS[suberror]]
    if error in TEMPORARY:
        yield ADVICE[TEMPORARY[error]]
    yield from (advice for pattern, advice in _TEXTS if pattern.search(description))


def without_person(advice: Advice) -> Advice:
    """The row that says the same where the app signs in by itself (client credentials, service account)."""
    return ADVICE[_APP_ONLY.get(advice.key, advice.key)]
