"""From a provider's error answer to one of our errors."""

import pytest

from bridge.errors import AuthorizationFailed, BridgeError, GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.oauth.failures import TEXT_LIMIT, Failure, refresh_problem, sign_in_problem
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


def test_a_sign_in_with_a_wrong_registration_is_the_admins_turn() -> None:
    assert type(sign_in_problem(aadsts("invalid_client", 7000218))) is ProviderRefused


def test_a_sign_in_that_meets_an_outage_can_be_tried_again() -> None:
    assert type(sign_in_problem(Failure("server_error"))) is ProviderUnavailable


def test_trap_28_an_expired_secret_is_explained_to_the_admin() -> None:
    assert "secret has expired: the administrator" in str(refresh_problem(aadsts("invalid_client", 7000222)))
    assert "Value, not its Secret ID" in str(refresh_problem(aadsts("invalid_client", 7000215)))


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


def test_given_secrets_and_token_like_runs_never_show() -> None:
    long = "0.AXkA" + "x" * 60
    text = f"the code s3cr3t and the token {long}\r\nand a tail" + " word" * 200
    problem = str(sign_in_problem(Failure("invalid_request", text), hide=(Secret("s3cr3t"), Secret(""))))
    assert "s3cr3t" not in problem
    assert "x" * 30 not in problem
    assert "\r" not in problem
    assert len(problem) < TEXT_LIMIT + 200
