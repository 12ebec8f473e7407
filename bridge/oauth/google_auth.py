"""google-auth over our one HTTPS session; its only importer. Both of Google's flows are built on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from bridge.advice.said import said
from bridge.errors import BridgeError, ProviderUnavailable
from bridge.oauth.failures import Failure
from bridge.oauth.http import Https
from bridge.oauth.quiet import quieten
from bridge.secret import Secret

T = TypeVar("T")

_GARBAGE = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, Warning)
"""What the libraries raise for answers that make no sense; oauthlib raises Warning itself."""


class Signer(Protocol):
    """google.oauth2.service_account.Credentials, as far as we use it: a key that can speak for a mailbox."""

    def with_subject(self, subject: str) -> Signer:
        """A copy that acts for this mailbox (domain-wide delegation)."""

    def refresh(self, request: Wire) -> None:
        """Ask for an access token; it is in the wire's answer."""


class Wire:
    """What google-auth calls to reach the network (google.auth.transport.Request).

    It raises our errors for every answer but a good one, so that google-auth neither repeats the request with three
    seconds of sleep in between, nor turns all failures into one kind of error.
    """

    def __init__(self, https: Https, problem: Callable[[Failure], BridgeError]) -> None:
        """`problem`: the error to raise for an error answer."""
        self._https = https
        self._problem = problem
        self.answer: dict[str, Any] = {}
        """The last good answer."""

    def __call__(
        self, url: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> _Answer:
        """Send one request; google-auth's own time limit is ignored."""
        reply = self._https.post(url, data=body, headers=headers) if method == "POST" else self._https.get(url)
        answer = reply.json()
        if reply.status_code != 200 or "error" in answer:
            raise self._problem(Failure.of(answer, reply.status_code))
        self.answer = answer
        return _Answer(reply.status_code, reply.headers, reply.text.encode())


class _Answer:
    """google.auth.transport.Response."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data


def refreshed(wire: Wire, *, token_url: str, client_id: str, client_secret: Secret[str], grant: Secret[str]) -> str:
    """Refresh a person's grant through the wire. Returns: the refresh token from now on."""
    from google.oauth2 import credentials as library  # late: it costs start time, and nobody may ever use Google

    quieten()
    untyped: Any = library.Credentials
    credentials = untyped(
        token=None,
        refresh_token=grant.reveal(),
        token_uri=token_url,
        client_id=client_id,
        client_secret=client_secret.reveal(),
    )
    credentials.refresh(wire)
    return str(credentials.refresh_token)


def signer(info: Mapping[str, str], scopes: list[str]) -> Signer | None:
    """A service account's key, ready to sign; None if `private_key` is no usable key. Takes a tenth of a second,
    because OpenSSL checks whether the key's numbers are primes."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import service_account

    quieten()
    untyped: Any = service_account.Credentials
    try:
        made: Any = untyped.from_service_account_info(info, scopes=scopes)
        made.sign_bytes(b"a key of another kind fails only here")
    except (GoogleAuthError, UnsupportedAlgorithm, *_GARBAGE):
        return None
    found: Signer = made
    return found


def guarded(work: Callable[[], T], *also: type[Exception]) -> T:
    """Map the exceptions of google-auth, and `also`; network trouble and error answers never get as far as the
    library."""
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException  # late, as in Https

    expected: tuple[type[Exception], ...] = (RequestException, GoogleAuthError, *_GARBAGE, *also)
    try:
        return work()
    except expected as problem:
        # from None: RefreshError prints the whole answer, tokens included
        raise ProviderUnavailable(
            said("Google's answer makes no sense to its library ({kind}).", kind=type(problem).__name__)
        ) from None
