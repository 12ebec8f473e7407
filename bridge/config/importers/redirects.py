"""Where the browser comes back to: one console for all providers, at the port that asks for the fewest changes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from bridge.advice.said import said
from bridge.config.console import USUAL_CONSOLE
from bridge.config.importers.drafts import Remark
from bridge.config.values import HttpsUrl, is_loopback

FIRST_ORDINARY = 1024
"""Lower ports are for administrators only on Linux; on Windows, port 80 mostly belongs to a web server."""

_NATIVE_CLIENT = "/oauth2/nativeclient"
"""The path of Microsoft's page from which people copied the URL into the other program."""

_URL: TypeAdapter[str] = TypeAdapter(HttpsUrl)


@dataclass(frozen=True, slots=True)
class Redirect:
    """What to write for one provider; no `uri` where the console's own will do."""

    uri: str | None
    remark: Remark | None = None


def console_port(redirects: Iterable[tuple[str, str, int]], taken: Collection[int]) -> int:
    """The localhost port that asks for the fewest changes at the providers.

    Args: redirects, each redirect URI, its provider's kind and how many accounts it has; taken, the listeners' ports.
    """
    exact: Counter[int] = Counter()
    """Microsoft does not look at the port, nor does Google for its usual type of client; others do."""
    wishes: Counter[int] = Counter()
    for uri, kind, accounts in redirects:
        port = _localhost_port(uri)
        if port is not None and port >= FIRST_ORDINARY and port not in taken:
            wishes[port] += accounts
            exact[port] += accounts if kind == "oauth2" else 0
    if wishes:
        return max(wishes, key=lambda port: (exact[port], wishes[port], port == USUAL_CONSOLE, -port))
    return next(port for port in range(USUAL_CONSOLE, 65536) if port not in taken)


def without_port(uri: str) -> str:
    """Equal for redirect URIs that the console can serve alike: it has one port for all URIs of localhost.

    Users of the other program who let it listen by itself were advised to take another port for each account.
    """
    return uri if _localhost_port(uri) is None else "http://localhost" + urlsplit(uri).path


def redirect(uris: Collection[str], kind: str, port: int) -> Redirect:
    """What to write for a provider that had these redirect URIs, which are the same but for their ports.

    Args: uris, as registered, an empty one if there was none; kind, of the provider; port, of the console.
    """
    uri = next((uri for uri in uris if _localhost_port(uri) == port), next(iter(uris)))
    if not uri:
        return Redirect(None)
    theirs = _localhost_port(uri)
    if theirs is None:
        return _elsewhere(uri, kind, port)
    # The URI must end with a slash if, and only if, it was registered with one; some providers ignore the port.
    ours = f"http://localhost:{port}" + ("/" if urlsplit(uri).path else "")
    if theirs == port:
        return Redirect(ours)
    return Redirect(ours, _other_port(uri, ours, kind))


def _localhost_port(uri: str) -> int | None:
    """The port of `http://localhost:PORT/`; None for any other URI."""
    try:
        url = urlsplit(uri)
        port = url.port
    except ValueError:
        return None
    if url.scheme != "http" or url.hostname != "localhost" or url.path not in {"", "/"} or url.query or url.fragment:
        return None
    return 80 if port is None else port


def _other_port(uri: str, ours: str, kind: str) -> Remark:
    if kind == "microsoft":
        return Remark(
            said(
                "redirect_uri was {old}. Microsoft ignores the port of localhost, so the registration can stay as it "
                "is. Should a sign-in end with AADSTS50011, register exactly {new} in place of the old one.",
                old=_shown(uri),
                new=ours,
            )
        )
    if kind == "google":
        return Remark(
            said(
                "redirect_uri was {old}. For a client of type Desktop app Google takes any port; for one of type Web, "
                "add {new} to its redirect URIs.",
                old=_shown(uri),
                new=ours,
            )
        )
    return _to_register(uri, ours)


def _elsewhere(uri: str, kind: str, port: int) -> Redirect:
    """A URI that is not `http://localhost:PORT/`."""
    ours = f"http://localhost:{port}/"
    try:
        url = urlsplit(_URL.validate_python(uri))
    except ValidationError:
        is_public = False
    else:
        is_public = not is_loopback(url.hostname or "") and not url.path.endswith(_NATIVE_CLIENT)
    if is_public:
        text = said(
            "The web server at {host} must pass redirect_uri on to the console, {console}",
            host=url.hostname,
            console=ours,
        )
        return Redirect(uri, Remark(text, to_do=True))
    if kind == "google":
        text = said(
            "redirect_uri was {old}. It is {new} now. For a client of type Desktop app nothing has to be registered; "
            "for one of type Web, add it to its redirect URIs.",
            old=_shown(uri),
            new=ours,
        )
        return Redirect(None, Remark(text))
    return Redirect(None, _to_register(uri, ours))


def _to_register(uri: str, ours: str) -> Remark:
    text = said(
        "redirect_uri was {old}. Register exactly {new} at the provider before the first sign-in.",
        old=_shown(uri),
        new=ours,
    )
    return Remark(text, to_do=True)


def _shown(uri: str) -> str:
    """The URI without a user name and a password before an @; nobody needs to see them again."""
    return re.sub(r"//[^/?#]*@", "//", uri)
