"""How a provider's error answer becomes one of our errors."""

from collections.abc import Callable

import pytest

from bridge.advice import provider
from bridge.advice.base import Turn
from bridge.errors import (
    AuthorizationFailed,
    BridgeError,
    GrantInDoubt,
    GrantRevoked,
    ProviderRefused,
    ProviderUnavailable,
)
from bridge.oauth.failures import LONGEST_TEXT, TEXT_LIMIT, Failure, refresh_problem, sign_in_problem
from bridge.oauth.unattended import REFUSED as SENTENCE
from bridge.oauth.unattended import refused, unattended_problem
from bridge.secret import Secret

REVOKED, REFUSED, UNAVAILABLE = GrantRevoked, ProviderRefused, ProviderUnavailable


def aadsts(error: str, code: int, suberror: str = "") -> Failure:
    description = f"AADSTS{code}: Something happened. Trace ID: 0a-1 Correlation ID: 0b-2"
    return Failure.of({"error": error, "error_description": description, "error_codes": [code], "suberror": suberror})


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure("invalid_grant"), REVOKED),
        (Failure("invalid_grant", suberror="bad_token"), REVOKED),
        (Failure("invalid_grant", suberror="invalid_rapt"), REVOKED),
        (Failure("interaction_required", suberror="basic_action"), REVOKED),
        (aadsts("invalid_grant", 700082), REVOKED),
        (aadsts("invalid_grant", 50173, "token_expired"), REVOKED),
        (aadsts("invalid_grant", 65001, "consent_required"), REVOKED),
        (aadsts("invalid_grant", 53003, "message_only"), REFUSED),
        (aadsts("invalid_client", 7000215), REFUSED),
        (aadsts("invalid_client", 7000222), REFUSED),
        (aadsts("unauthorized_client", 700016), REFUSED),
        (Failure("deleted_client"), REFUSED),
        (Failure("invalid_scope"), REFUSED),
        (aadsts("invalid_grant", 90033), UNAVAILABLE),
        (aadsts("invalid_request", 50196), UNAVAILABLE),
        (Failure("temporarily_unavailable"), UNAVAILABLE),
        (Failure("invalid_grant", status=503), UNAVAILABLE),
        (Failure("invalid_grant", status=429), UNAVAILABLE),
        (Failure("never_heard_of"), UNAVAILABLE),
        (Failure("", status=404), UNAVAILABLE),
    ],
)
def test_peer_14_a_refused_refresh_becomes(failure: Failure, expected: type[BridgeError]) -> None:
    assert type(refresh_problem(failure)) is expected


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure("access_denied"), "denied"),
        (aadsts("access_denied", 65004), "denied"),
        (Failure("consent_required", "consent not given"), "denied"),  # LemonLDAP::NG
        (aadsts("consent_required", 65001), "provider"),
        (aadsts("access_denied", 90094), "provider"),
        (aadsts("access_denied", 53003), "provider"),
        (Failure("invalid_grant"), "provider"),
        (Failure("login_required"), "provider"),
        (Failure("never_heard_of"), "provider"),
    ],
)
def test_a_failed_sign_in_becomes(failure: Failure, code: str) -> None:
    problem = sign_in_problem(failure)
    assert isinstance(problem, AuthorizationFailed)
    assert problem.code == code


def test_a_wrong_renewal_that_says_more_leaves_the_sign_in_beyond_doubt() -> None:
    assert type(refresh_problem(Failure("invalid_request"), rows=provider.REFRESHING)) is GrantInDoubt
    assert type(refresh_problem(aadsts("invalid_request", 9002327), rows=provider.REFRESHING)) is REFUSED


def test_a_sign_in_with_a_wrong_registration_is_the_admins_turn() -> None:
    assert type(sign_in_problem(aadsts("invalid_client", 7000218))) is ProviderRefused


def test_a_sign_in_that_meets_an_outage_can_be_tried_again() -> None:
    assert type(sign_in_problem(Failure("server_error"))) is ProviderUnavailable


def test_trap_28_an_expired_secret_is_explained_to_the_admin() -> None:
    assert "secret has expired: the administrator" in str(refresh_problem(aadsts("invalid_client", 7000222)))
    assert "Value, not its Secret ID" in str(refresh_problem(aadsts("invalid_client", 7000215)))


USER, APP_ADMIN, TENANT_ADMIN, NOBODY = Turn.USER, Turn.APP_ADMIN, Turn.TENANT_ADMIN, Turn.NOBODY

NUMBERS = [
    ("invalid_grant", (50076, 50079, 50072, 50074, 50078, 50158), "microsoft.second_factor", USER),
    ("invalid_grant", (65001,), "microsoft.consent", USER),
    ("access_denied", (65004,), "microsoft.cancelled", USER),
    ("access_denied", (90094, 90095), "microsoft.admin_consent", TENANT_ADMIN),
    ("invalid_grant", (70008, 700082), "microsoft.unused", USER),
    ("invalid_grant", (50173, 50132, 50133, 50089), "microsoft.revoked", USER),
    ("invalid_grant", (70043, 70044), "microsoft.frequency", USER),
    ("access_denied", (53000, 53001, 53002, 53003, 530032, 50131), "microsoft.conditional_access", TENANT_ADMIN),
    ("invalid_grant", (50005, 53004, 53010, 53011), "microsoft.conditional_access", TENANT_ADMIN),
    ("invalid_grant", (530035,), "mail.security_defaults", TENANT_ADMIN),
    ("invalid_grant", (50097, 50129, 50155, 50187, 135011, 530002, 530003, 700003), "microsoft.device", TENANT_ADMIN),
    ("invalid_grant", (50105,), "microsoft.assignment", TENANT_ADMIN),
    ("invalid_request", (50011, 900971, 500113), "microsoft.redirect_uri", APP_ADMIN),
    ("invalid_client", (7000215,), "microsoft.wrong_secret", APP_ADMIN),
    ("invalid_client", (7000222,), "microsoft.secret_expired", APP_ADMIN),
    ("invalid_client", (7000218,), "microsoft.secret_missing", APP_ADMIN),
    ("invalid_client", (700025,), "microsoft.public_client", APP_ADMIN),
    ("invalid_client", (700027, 700030, 1000502, 7000214, 7000274, 7000277), "microsoft.certificate", APP_ADMIN),
    ("invalid_client", (700024,), "microsoft.clock", APP_ADMIN),
    ("invalid_request", (700084, 9002327, 9002326), "microsoft.single_page", APP_ADMIN),
    ("unauthorized_client", (700016, 700011), "microsoft.unknown_app", APP_ADMIN),
    ("unauthorized_client", (7000112,), "microsoft.app_disabled", TENANT_ADMIN),
    ("invalid_request", (90002, 50194, 9002331, 9002332, 9002346), "microsoft.tenant", APP_ADMIN),
    ("invalid_request", (50059, 90038, 90124, 90130, 900382, 900432, 9001023), "microsoft.tenant", APP_ADMIN),
    ("invalid_grant", (700005,), "microsoft.tenant", APP_ADMIN),
    ("invalid_grant", (50020, 50034, 500208, 90072), "microsoft.other_tenant", USER),
    ("invalid_grant", (16000, 16003, 50014, 51004), "microsoft.other_tenant", USER),
    ("invalid_grant", (500341,), "oauth.deleted", TENANT_ADMIN),
    ("invalid_scope", (70011, 700022, 28000, 28002, 28003), "microsoft.scope", APP_ADMIN),
    ("invalid_resource", (650057, 500011), "microsoft.scope", APP_ADMIN),
    ("invalid_client", (65005, 650053, 650054, 650056), "microsoft.scope", APP_ADMIN),
    ("invalid_client", (650051,), "microsoft.admin_consent", TENANT_ADMIN),
    ("invalid_client", (650052,), "microsoft.no_exchange", TENANT_ADMIN),
    ("invalid_resource", (500014,), "microsoft.no_exchange", TENANT_ADMIN),
    ("invalid_grant", (54005, 501481, 70000), "microsoft.not_valid", USER),
    ("invalid_request", (50196,), "microsoft.loop", NOBODY),
    ("invalid_grant", (50053,), "microsoft.locked", USER),
    ("invalid_grant", (50055, 50126, 50135, 50144), "microsoft.password", USER),
    ("invalid_grant", (50057,), "microsoft.disabled", TENANT_ADMIN),
    ("invalid_grant", (90033, 90006, 90024, 50033, 50087), "microsoft.temporary", NOBODY),
    ("invalid_grant", (70012, 90012, 90055, 90090), "microsoft.temporary", NOBODY),
]


@pytest.mark.parametrize("decide", [refresh_problem, sign_in_problem], ids=["refresh", "sign-in"])
@pytest.mark.parametrize(
    ("error", "code", "key", "turn"),
    [(error, code, key, turn) for error, codes, key, turn in NUMBERS for code in codes],
)
def test_peer_14_each_number_of_microsofts_is_explained(
    decide: Callable[[Failure], BridgeError], error: str, code: int, key: str, turn: Turn
) -> None:
    problem = decide(aadsts(error, code))
    if decide is sign_in_problem and key in {"microsoft.unused", "microsoft.not_valid"}:
        key = "oauth.code_spent"  # the same codes stand for an authorization code that is too old
    assert problem.diagnosis is not None
    assert (problem.diagnosis.key, problem.diagnosis.advice.turn) == (key, turn)
    assert problem.diagnosis.advice.is_temporary is (turn is NOBODY)
    assert (type(problem) is UNAVAILABLE) is (turn is NOBODY)
    assert f"AADSTS{code}: Something happened." in str(problem.diagnosis.words)
    assert str(problem) == problem.diagnosis.told()


def test_every_number_is_tried_here() -> None:
    assert {code for _, codes, _, _ in NUMBERS for code in codes} == set(provider._BY_CODE)


@pytest.mark.parametrize(
    ("failure", "kind", "key", "turn"),
    [
        (Failure("invalid_grant"), REVOKED, "oauth.ended", USER),
        (Failure("invalid_grant", "Token has been expired or revoked."), REVOKED, "google.ended", USER),
        (Failure("invalid_grant", "Bad Request"), REVOKED, "google.ended", USER),
        (Failure("invalid_grant", "Account has been deleted"), REVOKED, "oauth.deleted", TENANT_ADMIN),
        (Failure("invalid_grant", suberror="invalid_rapt"), REVOKED, "google.reauthentication", USER),
        (Failure("invalid_grant", suberror="rapt_required"), REVOKED, "google.reauthentication", USER),
        (Failure("invalid_grant", suberror="message_only"), REFUSED, "oauth.policy", TENANT_ADMIN),
        (Failure("org_internal", status=403), REFUSED, "google.org_internal", APP_ADMIN),
        (Failure("admin_policy_enforced"), REFUSED, "google.admin_policy", TENANT_ADMIN),
        (Failure("deleted_client", status=401), REFUSED, "google.deleted_client", APP_ADMIN),
        (Failure("disabled_client", status=401), REFUSED, "google.disabled_client", APP_ADMIN),
        (
            Failure("invalid_request", "You can't sign in because this app doesn't comply with OAuth 2.0 policy."),
            REFUSED,
            "google.app_policy",
            APP_ADMIN,
        ),
        (Failure("invalid_client"), REFUSED, "oauth.invalid_client", APP_ADMIN),
        (Failure("unauthorized_client"), REFUSED, "oauth.unauthorized_client", APP_ADMIN),
        (
            Failure("unauthorized_client", "Invalid client or Invalid client credentials", status=401),  # Keycloak
            REFUSED,
            "oauth.invalid_client",
            APP_ADMIN,
        ),
        (Failure("redirect_uri_mismatch"), REFUSED, "oauth.redirect_uri", APP_ADMIN),
        (Failure("invalid_scope"), REFUSED, "oauth.scope", APP_ADMIN),
        (Failure("invalid_request"), REFUSED, "oauth.invalid_request", APP_ADMIN),
        (Failure("unsupported_grant_type"), REFUSED, "oauth.unsupported_grant", APP_ADMIN),
        (Failure("unsupported_response_type"), REFUSED, "oauth.unsupported_response", APP_ADMIN),
        (Failure("invalid_tenant"), REFUSED, "oauth.tenant", APP_ADMIN),
        (Failure("invalid_dpop_proof"), REFUSED, "oauth.dpop", APP_ADMIN),
        (Failure("use_dpop_nonce"), REFUSED, "oauth.dpop", APP_ADMIN),
        (Failure("temporarily_unavailable"), UNAVAILABLE, "oauth.temporary", NOBODY),
        (Failure("slow_down"), UNAVAILABLE, "device.slow_down", NOBODY),
        (Failure("authorization_pending"), UNAVAILABLE, "device.pending", USER),
        (Failure("never_heard_of"), UNAVAILABLE, "oauth.unknown", APP_ADMIN),
    ],
)
def test_a_refused_refresh_is_explained(failure: Failure, kind: type[BridgeError], key: str, turn: Turn) -> None:
    problem = refresh_problem(failure)
    assert type(problem) is kind
    assert problem.diagnosis is not None
    assert (problem.diagnosis.key, problem.diagnosis.advice.turn) == (key, turn)


@pytest.mark.parametrize("error", ["invalid_dpop_proof", "use_dpop_nonce"])
def test_who_signs_in_where_tokens_are_bound_to_a_key_is_not_asked_to_do_it_again(error: str) -> None:
    """Each further sign-in would end in the same way."""
    problem = sign_in_problem(Failure(error))
    assert type(problem) is ProviderRefused
    assert problem.diagnosis is not None
    assert (problem.diagnosis.key, problem.diagnosis.advice.turn) == ("oauth.dpop", APP_ADMIN)


@pytest.mark.parametrize(
    ("failure", "code", "key"),
    [
        (Failure("access_denied"), "denied", "oauth.declined"),
        (Failure("expired_token"), "expired", "device.expired"),
        (Failure("invalid_grant"), "provider", "oauth.code_spent"),
        (Failure("invalid_grant", "Bad Request"), "provider", "oauth.code_spent"),
        (Failure("login_required"), "provider", "oauth.not_completed"),
        (Failure("never_heard_of"), "provider", "oauth.not_completed"),
    ],
)
def test_a_failed_sign_in_is_explained(failure: Failure, code: str, key: str) -> None:
    problem = sign_in_problem(failure)
    assert isinstance(problem, AuthorizationFailed)
    assert problem.diagnosis is not None
    assert (problem.code, problem.diagnosis.key) == (code, key)


@pytest.mark.parametrize(
    ("failure", "key", "turn"),
    [
        (aadsts("invalid_grant", 65001), "app_only.consent", TENANT_ADMIN),
        (aadsts("unauthorized_client", 700016), "microsoft.unknown_app", APP_ADMIN),
        (aadsts("invalid_client", 7000215), "microsoft.wrong_secret", APP_ADMIN),
        (aadsts("invalid_client", 7000222), "microsoft.secret_expired", APP_ADMIN),
        (aadsts("invalid_client", 700027), "microsoft.certificate", APP_ADMIN),
        (aadsts("invalid_client", 700024), "microsoft.clock", APP_ADMIN),
        (aadsts("invalid_resource", 500011), "microsoft.scope", APP_ADMIN),
        (aadsts("access_denied", 53003), "microsoft.conditional_access", TENANT_ADMIN),
        (
            Failure("unauthorized_client", "Client is unauthorized to retrieve tokens"),
            "google.delegation",
            TENANT_ADMIN,
        ),
        (Failure("invalid_grant", "Invalid email or User ID"), "google.no_such_user", APP_ADMIN),
        (
            Failure("invalid_request", "Invalid impersonation &quot;sub&quot; field."),
            "google.no_such_user",
            APP_ADMIN,
        ),
        (Failure("invalid_grant", "Invalid JWT Signature."), "google.key", APP_ADMIN),
        (
            Failure("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)"),
            "google.clock",
            APP_ADMIN,
        ),
        (Failure("invalid_grant", "Bad Request"), "app_only.refused", APP_ADMIN),
        (Failure("never_heard_of"), "app_only.refused", APP_ADMIN),
    ],
)
def test_where_the_app_signs_in_by_itself_nobody_is_asked_to_sign_in(failure: Failure, key: str, turn: Turn) -> None:
    problem = refused(failure, SENTENCE)
    assert type(problem) is ProviderRefused
    assert problem.diagnosis is not None
    assert (problem.diagnosis.key, problem.diagnosis.advice.turn) == (key, turn)


def test_an_outage_while_the_app_signs_in_by_itself_is_waited_for() -> None:
    assert type(unattended_problem(Failure("invalid_client", status=503))) is ProviderUnavailable


@pytest.mark.parametrize("code", [50173, 7000222])
@pytest.mark.parametrize("status", [429, 503])
def test_nobody_is_sent_to_sign_in_by_the_body_of_a_gateways_error(code: int, status: int) -> None:
    answer = {"error": "invalid_grant", "error_description": f"AADSTS{code}: x", "error_codes": [code]}
    problem = refresh_problem(Failure.of(answer, status))
    assert problem.diagnosis is not None
    assert problem.diagnosis.advice.turn is NOBODY
    assert "Sign in" not in str(problem)


def test_googles_session_control_is_explained_without_its_command_line_tool() -> None:
    failure = Failure.of({"error": "invalid_grant", "error_subtype": "invalid_rapt", "error_description": "run gcloud"})
    assert "gcloud" not in str(refresh_problem(failure))


def test_unknown_errors_keep_the_providers_words() -> None:
    assert "frobnication: not today" in str(refresh_problem(Failure("frobnication", "not today")))


def test_codes_are_read_from_the_text_where_there_is_no_list() -> None:
    failure = Failure.of({"error": "access_denied", "error_description": "AADSTS65004: User declined to consent"})
    assert failure.codes == (65004,)


def test_an_answer_with_wrong_types_is_read_as_empty() -> None:
    assert Failure.of({"error": 5, "error_description": ["x"], "error_codes": "7", "suberror": None}) == Failure("")


def test_of_an_endless_text_only_the_beginning_is_looked_at() -> None:
    """Else looking through it, in the event loop, would hold up everybody."""
    words = "an error that is explained at length, "
    failure = Failure.of(dict.fromkeys(("error", "error_description", "suberror"), words * 6500))
    assert max(map(len, (failure.error, failure.description, failure.suberror))) <= LONGEST_TEXT
    assert words in str(refresh_problem(failure))


def test_a_secret_at_which_an_endless_text_is_cut_does_not_show() -> None:
    """A whole one is recognised, its beginning is not."""
    token = "/".join(f"piece{number:05}" for number in range(LONGEST_TEXT // 10))
    failure = Failure.of({"error": "invalid_grant", "error_description": f"unknown token {token}, which was sent"})
    problem = str(refresh_problem(failure, hide=[Secret(token)]))
    assert "unknown token" in problem
    assert "piece" not in problem


def test_given_secrets_and_token_like_runs_never_show() -> None:
    long = "0.AXkA" + "x" * 60
    text = f"the code s3cr3t and the token {long}\r\nand a tail" + " word" * 200
    problem = str(sign_in_problem(Failure("invalid_request", text), hide=(Secret("s3cr3t"), Secret(""))))
    assert "s3cr3t" not in problem
    assert "x" * 30 not in problem
    assert "\r" not in problem
    assert len(problem) < TEXT_LIMIT + 200


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        ({"error_codes": [50173, "65001", None, 7.5]}, (50173,)),
        ({"error_codes": 50173}, ()),
        ({"error_codes": "50173"}, ()),
        ({"error_codes": {"50173": 1}}, ()),
        ({"error_description": "AADSTS7000218: The request body must contain client_secret"}, (7000218,)),
        ({"error_description": 7000218}, ()),
    ],
    ids=str,
)
def test_the_numbers_are_read_from_whatever_an_answer_has_in_their_place(
    answer: dict[str, object], codes: tuple[int, ...]
) -> None:
    assert Failure.of(answer).codes == codes


@pytest.mark.parametrize("piece", ["-", "_", ".", "~", "+", "="])
def test_a_token_is_left_out_whatever_signs_are_in_it(piece: str) -> None:
    """These signs occur in JWTs, base64 and base64url; no part between them is long."""
    token = piece.join(["CANARY7"] * 8)
    assert "CANARY" not in str(refresh_problem(Failure("invalid_grant", f"the token {token} is spent")))


def test_a_text_is_one_line_that_a_terminal_can_show() -> None:
    text = str(refresh_problem(Failure("invalid_grant", "one\r\ntwo\x1b[2J three\u202e")))
    assert text.isprintable()
    assert "one two [2J three" in text


def test_a_secret_that_is_none_hides_nothing() -> None:
    """A client may have no secret, or the sign-in began without PKCE."""
    assert "the code is spent" in str(sign_in_problem(Failure("invalid_grant", "the code is spent"), hide=[Secret("")]))
