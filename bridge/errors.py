"""Every exception we raise on purpose: one tree; each class fixes `temporary` and a short `public` text.

`str(error)` is English, for the log; `diagnosis`, if the table of advice has a row, is what people are told in their
own language; `public` is ASCII, safe to send to a mail client, and never contains a secret, a path or a library's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, as_said

_CROWDED = frozenset({"mail.crowded", "mail.too_many"})

AGAIN_SECONDS = 10.0
"""Seconds after which a brief network failure may be over."""


class BridgeError(Exception):
    """The root. Code that catches it may show `public` to a mail client; cause and detail stay in the log."""

    temporary: ClassVar[bool] = False
    public_text: ClassVar[str] = "The mail bridge cannot do this."

    advice: ClassVar[str] = ""
    """Row of the table of advice for an error without a diagnosis of its own; the error's text then takes the place of
    the other side's words."""

    def __init__(self, text: str | Said = "", *, diagnosis: Diagnosis | None = None) -> None:
        """Args: text, in English for the log, and for people if it is Said; without it, that of the diagnosis.
        diagnosis, for people in their language, if the table has a row."""
        super().__init__(str(text) or ("" if diagnosis is None else diagnosis.told()))
        if diagnosis is None and self.advice:
            diagnosis = self._of_its_class(text)
        self.diagnosis = diagnosis
        self.said = text if isinstance(text, Said) else None
        """The text, to be told in any language; None for one that is English only."""

    def _of_its_class(self, text: str | Said) -> Diagnosis:
        return Diagnosis(self.advice, words=text)

    @property
    def words(self) -> str | Said:
        """The text as a sentence, a diagnosis or another error takes it: Said if it is, else English."""
        return self.said or str(self)

    @property
    def public(self) -> str:
        """One ASCII sentence for the person behind the mail client."""
        return self.public_text


class TooLittleLeft(BridgeError):
    """A part of ours that is loaded only on demand cannot be loaded: no descriptor or memory is left for it, or
    an update has replaced it."""

    temporary = True
    public_text = "The mail bridge cannot do this just now. Try again later."


class LoginRefused(BridgeError):
    """Wrong local password or unknown username; the client deliberately cannot tell which."""

    public_text = "User name or local password is wrong. The local password is the one shown by mail-bridge."


class PasswordUnknown(BridgeError):
    """The local password is the mail program's own: only a hash of it is kept, so it cannot be shown."""

    public_text = "The local password is the mail program's own."


class AuthorizationRequired(BridgeError):
    """Somebody must sign in before this account works; the text holds the local URL to open."""

    temporary = True
    public_text = "A sign-in is needed."
    public_form = "Open {url} ({address} must sign in)"

    def __init__(self, address: str, url: str, reason: str = "", *, diagnosis: Diagnosis | None = None) -> None:
        super().__init__(f"{address} must sign in: {url}" + (f" ({reason})" if reason else ""), diagnosis=diagnosis)
        self.address = address
        self.url = url
        self.reason = reason

    @property
    def public(self) -> str:
        """The page to open, first because PHP's library shows only 80 characters of an answer, and the account."""
        return self.public_form.format(url=self.url, address=self.address)


class ProviderUnavailable(BridgeError):
    """The token endpoint cannot be reached or reports a problem of its own; the token is kept."""

    temporary = True
    public_text = "The sign-in service cannot be reached just now. Try again later."
    advice = "oauth.unreachable"


class ProviderNotAsked(ProviderUnavailable):
    """Nothing of the request was sent: there was no connection, or the provider wants to be left alone for a while. A
    code or grant that was to be sent is still unused."""

    def __init__(
        self, text: str | Said = "", *, diagnosis: Diagnosis | None = None, wait: float = AGAIN_SECONDS
    ) -> None:
        super().__init__(text, diagnosis=diagnosis)
        self.wait = wait
        """Seconds after which it is worth trying again; does not survive the way to another process."""


class ProviderRedirects(ProviderUnavailable):
    """The answer redirects us to another place, to which we send no code, secret or token: either something else than
    the provider answers, or a URL is wrong."""


class ProviderRefused(ProviderUnavailable):
    """The provider rejects our registration (secret expired, client unknown): an admin must act; no token is lost."""

    public_text = "The sign-in service refuses the bridge's registration. Its administrator must act."
    advice = "oauth.registration"


class GrantInDoubt(ProviderRefused):
    """The provider refuses a refresh with an error that it uses both for a wrong request and for a sign-in that has
    ended: the grant is kept and tried again, and the person is asked to sign in meanwhile."""

    advice = "oauth.refresh_wrong"


class GrantRevoked(BridgeError):
    """The provider will not refresh this grant (invalid_grant and its kin): the person must sign in again."""

    public_text = "The sign-in has ended; a new one is needed."


class AuthorizationFailed(BridgeError):
    """A sign-in attempt ended without a usable grant: denied, wrong person, stale or forged answer."""

    public_text = "The sign-in did not succeed."

    def __init__(self, reason: str | Said = "", *, code: str, diagnosis: Diagnosis | None = None) -> None:
        super().__init__(reason, diagnosis=diagnosis)
        self.code = code
        """denied, wrong_person, unknown_state, expired, cancelled, no_grant, missing_scope, unattended or provider."""


class UpstreamUnavailable(BridgeError):
    """The mail server cannot be reached, is busy, or breaks its protocol; worth trying later."""

    temporary = True
    public_text = "The mail server cannot be reached just now. Try again later."
    advice = "mail.unreachable"

    @property
    def public(self) -> str:
        """Too many connections get a sentence of their own, because "cannot be reached" makes people look for a
        firewall."""
        is_crowded = self.diagnosis is not None and self.diagnosis.key in _CROWDED
        return "The mailbox has too many connections just now. Try again later." if is_crowded else self.public_text


class TlsFailed(UpstreamUnavailable):
    """The TLS handshake failed: certificate, name, protocol version. Neither mail nor token was sent."""

    public_text = "A secure connection to the mail server is not possible just now."
    advice = "mail.tls"


class UpstreamRefused(BridgeError):
    """The mail server refuses a fresh token: a setting or a right at the provider is missing."""

    public_text = "The mail server refuses this account."

    def __init__(self, reason: str | Said, *, text: str = "", diagnosis: Diagnosis | None = None) -> None:
        super().__init__(reason, diagnosis=diagnosis)
        self.text = text
        """The server's own words, as received."""

    @property
    def public(self) -> str:
        """Our sentence, and the server's own words if there are any."""
        return f"{self.public_text} It says: {_ascii(self.text)}" if self.text else self.public_text


class TokenRefused(UpstreamRefused):
    """The mail server does not accept this token: one forced refresh and one retry are worth it."""


class MailboxNotOpened(UpstreamRefused):
    """The mail server accepts the token but opens no mailbox, in words that it uses both for a missing right and for
    trouble of its own: the mail client may try again, and the diagnosis says who must act."""

    temporary = True


class StoreTrouble(BridgeError):
    """What StoreUnavailable and StoreCorrupt have in common: their row of the table of advice has a place for the
    problem, which is a sentence of ours."""

    def _of_its_class(self, text: str | Said) -> Diagnosis:
        return Diagnosis.of(self.advice, problem=as_said(text))


class StoreUnavailable(StoreTrouble):
    """The store, or the place of its key, does not answer (locked keyring, locked or full disk); nothing is lost."""

    temporary = True
    public_text = "The bridge cannot open its token store just now. Try again later."
    advice = "store.unavailable"


class SignInUnsaved(StoreUnavailable):
    """Somebody has signed in, but the store could not save it: it waits in memory, and nothing is lost so far."""

    advice = "sign_in.unsaved"


class KeyringMissing(StoreUnavailable):
    """There is no keyring that can be trusted with a key: waiting does not help, the admin must name another home."""


class KeyFileUnusable(StoreUnavailable):
    """The key file that the admin has named cannot be read, made or trusted: waiting does not help here either."""


class StoreFileUnusable(StoreUnavailable):
    """The store's file cannot be opened, made or written, such as on a read-only disk: waiting does not help here
    either."""


class StoreCorrupt(StoreTrouble):
    """A record does not open with its seal, or has a newer schema; it is left as it is for the admin."""

    public_text = "The stored sign-in cannot be read. The administrator must act."
    advice = "store.corrupt"

    def __init__(
        self, text: str | Said = "", *, diagnosis: Diagnosis | None = None, version: int | None = None
    ) -> None:
        super().__init__(text, diagnosis=diagnosis)
        self.version = version
        """Version of the single record that does not open, for code that removes or replaces it; None in all other
        cases."""


class VersionConflict(BridgeError):
    """Compare-and-swap lost: the record changed since it was read. Never reaches a client."""

    temporary = True


class LimitReached(BridgeError):
    """Too many connections, attempts, commands, bytes or seconds."""

    temporary = True
    public_text = "Too many connections or attempts. Try again later."


class BridgeStops(LimitReached):
    """No login is accepted any more. The client is told as for a limit: try later, and the connection is closed."""

    public_text = "mail-bridge is being stopped. Try again later."


class ProtocolViolation(BridgeError):
    """The peer sent something that its protocol does not allow, or more than we accept."""

    public_text = "Protocol error."


class PeerGone(BridgeError):
    """The peer closed or lost its connection; there is nobody left to tell."""

    temporary = True


class ConfigError(BridgeError):
    """The configuration cannot be used; never reaches a client. One or more problems, each naming its place."""

    def __init__(self, problems: Iterable[str | Said], *, may_pass: bool = False, is_locked: bool = False) -> None:
        """Args: problems, in the order of the file; a text that is not Said is shown as it is. may_pass, True if the
        only obstacle is a keyring that is locked now, or a file that the system cannot open now; is_locked, True if it
        is such a keyring."""
        self.may_pass = may_pass
        self.is_locked = is_locked
        self.sentences = tuple(as_said(problem) for problem in problems)
        """The problems, to be told in any language."""
        self.problems = tuple(str(sentence) for sentence in self.sentences)
        """The problems in English, for the log."""
        super().__init__("\n".join(self.problems))


def _ascii(text: str) -> str:
    """Printable ASCII on one line: the words go into protocol replies."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:300]
