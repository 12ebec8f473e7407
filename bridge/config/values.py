"""What a single value of the file may be: a URL, a host, an address, a path, a secret, a day; each reads its own text.

So `client_id: 011` stays a text and `port: ${PORT}` becomes a number. What a value says of itself is checked here.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
)
from pydantic_core import CoreSchema, core_schema

from bridge.advice.said import Said, as_said, said
from bridge.config.plugins import look_for_none
from bridge.model import LONGEST_ADDRESS
from bridge.secret import Secret

look_for_none()


class BadValue(ValueError):
    """What is wrong with a value, in two sentences: the value may have come from a `${…}` reference."""

    def __init__(self, quoting: Said, general: Said | None = None) -> None:
        super().__init__(str(quoting))
        self.quoting = quoting
        """The sentence, which may quote the value."""
        self.general = general or quoting
        """The same without any part of the value, for one that may be a secret."""


def either(choices: Sequence[str]) -> Said:
    """`a, b or c`"""
    *others, last = choices
    return said("{others} or {last}", others=", ".join(others), last=last) if others else as_said(last)


def both(things: Sequence[str]) -> Said:
    """`a, b and c`"""
    *others, last = things
    return said("{others} and {last}", others=", ".join(others), last=last) if others else as_said(last)


class Part(BaseModel):
    """A part of the configuration: frozen, and a key that is not known is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,  # the input may be a secret
    )


class _SecretText:
    """Lets pydantic take a string and keep it as Secret[str]."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def wrap(value: Any) -> Secret[str]:
            if isinstance(value, Secret):
                return value
            if not isinstance(value, str) or not value:
                raise BadValue(said("must be a text that is not empty"))
            return Secret(value)

        return core_schema.no_info_plain_validator_function(wrap)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


SecretText = Annotated[Secret[str], _SecretText]


def _is_plain(value: str) -> bool:
    """No spaces, no control characters: nothing that could break a header, a log line or a protocol's line."""
    return value.isprintable() and not any(c.isspace() for c in value)


def miscopied(value: str) -> Said | None:
    """What is wrong with a copied text: it has an invisible character, such as a zero-width space of a web page, or the
    typographic quotes of a word processor, which YAML takes for part of it. It looks right everywhere, and the provider
    only says that it does not know it. None if nothing is wrong."""
    found = next((c for c in value if not c.isprintable()), "")  # the only printable space is the ordinary one
    if found in _BREAKS:
        return said(
            "contains a line break or a tab: write it on one line and, if it contains a \\, in '…' and not in \"…\""
        )
    if found:
        character = f"U+{ord(found):04X} {unicodedata.name(found, '')}".rstrip()
        return said(
            "contains an invisible character ({character}): type the value by hand, or copy it as plain text",
            character=character,
        )
    if value[:1] in _ROUND_QUOTES and value[-1:] in _ROUND_QUOTES:
        return said("is in typographic quotes, which become part of the value: write straight ones, or none")
    return None


_BREAKS = frozenset("\t\n\r\x85\u2028\u2029")
"""What \\t, \\n, \\r, \\N, \\L and \\P become in a name or a path in "…"; the file of a reference may have line breaks,
too."""
_ROUND_QUOTES = frozenset("“”„‟‘’‚‛«»‹›")


def check_seen(value: str) -> None:
    """Raises: BadValue, which quotes only the invisible character, so that it may be used for secrets."""
    if (wrong := miscopied(value)) is not None:
        raise BadValue(wrong)


def _client_secret(value: Secret[str]) -> Secret[str]:
    """A space inside is allowed (RFC 6749 appendix A.2); one at an end came along when it was copied."""
    text = value.reveal()
    if text != text.strip(" "):
        raise BadValue(said("begins or ends with a space: write it without"))
    check_seen(text)
    return value


ClientSecret = Annotated[SecretText, AfterValidator(_client_secret)]


def _name(value: str) -> str:
    name = value.strip()
    check_seen(name)
    if not name or not _is_plain(name):
        raise BadValue(said("must be a text without spaces, and not empty"))
    return name


Name = Annotated[str, AfterValidator(_name)]
"""A word that goes into a request as it is: a client id, a scope."""


def _https_url(value: str) -> str:
    text = value.strip()
    check_seen(text)
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise BadValue(said("is not a URL such as https://example.com/path")) from None
    if url.username is not None or url.password is not None:
        raise BadValue(said("must not contain a user name or a password"))
    if not _is_plain(text) or host is None or not _is_url_host(host):
        raise BadValue(said("is not a URL such as https://example.com/path"))
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(host)):
        return text
    raise BadValue(said("must begin with https:// (http:// is for localhost only)"))


HttpsUrl = Annotated[str, AfterValidator(_https_url)]


def _secret_url(value: Secret[str]) -> Secret[str]:
    return Secret(_https_url(value.reveal()))


SecretUrl = Annotated[SecretText, AfterValidator(_secret_url)]
"""Whoever knows it may use it: chat services put the key into the path."""


def _proxy_url(value: str) -> str:
    text = value.strip()
    check_seen(text)
    try:
        url = urlsplit(text)
        has_place = url.hostname is not None and _is_url_host(url.hostname) and url.port is not None
        is_good = url.scheme in {"http", "https"} and has_place and _is_plain(text)
    except ValueError:
        is_good = False
    if not is_good:
        raise BadValue(said("must look like http://proxy.example.com:3128"))
    if url.username is not None or url.password is not None:
        raise BadValue(
            said(
                "must not contain a user name or a password: if the proxy requires them, leave this out and set "
                "HTTPS_PROXY (http://user:password@host:port) where mail-bridge starts"
            )
        )
    return text


ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]


def _is_url_host(text: str) -> bool:
    """As is_host(); with the dot of a name that is complete, which a URL may have (RFC 3986 section 3.2.2)."""
    return is_host(text.removesuffix("."))


_DOMAIN = re.compile(r"[\w](?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)*")


def _host_name(value: str) -> str:
    host = value.strip()
    if is_host(host):
        return host
    check_seen(host)
    if "://" in host or host.count(":") == 1:
        raise BadValue(said("must be the name alone, such as imap.example.com: the port has a key of its own, `port`"))
    raise BadValue(said("must be the name of a server, such as imap.example.com"))


HostName = Annotated[str, AfterValidator(_host_name)]


def is_host(text: str) -> bool:
    """True for a name or an IP address, without brackets or port."""
    if _DOMAIN.fullmatch(text):
        return len(text) <= 253  # RFC 1035 section 2.3.4
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_SPECIALS = frozenset('()<>[]:;@\\,"')


def _mail_address(value: str) -> str:
    address = unicodedata.normalize("NFC", value).strip().lower()
    check_seen(address)
    local, at, domain = address.rpartition("@")
    # _SPECIALS are for quoted names only (RFC 5322 section 3.2.3): OFFICE\alice@office is a login name that gets no
    # mail, and mailto:alice@example.com is a copied link.
    is_good = at and local and _DOMAIN.fullmatch(domain) and _is_plain(address) and not _SPECIALS & set(local)
    if not is_good or len(address) > LONGEST_ADDRESS or ("*" in local and local != "*"):
        raise BadValue(said('must be an address such as alice@example.com, or "*@example.com" for a whole domain'))
    return address


MailAddress = Annotated[str, AfterValidator(_mail_address)]


def _person(value: str) -> str:
    check_seen(value.strip())
    try:
        address = _mail_address(value)
    except BadValue:
        address = "*@"
    if address.startswith("*@"):
        raise BadValue(said("must be the address of one person, such as alice@example.com, not a whole domain"))
    return address


PersonAddress = Annotated[str, AfterValidator(_person)]


def _username(value: str) -> str:
    name = unicodedata.normalize("NFC", value).strip()
    check_seen(name)
    if not name or len(name) > LONGEST_ADDRESS:
        raise BadValue(said("must be a user name: 1 to {most} characters", most=LONGEST_ADDRESS))
    if "*" in name:
        raise BadValue(said('must be one user name; for everybody of a domain, add an account "*@example.com"'))
    return name


Username = Annotated[str, AfterValidator(_username)]


def _os_user(value: str) -> str:
    name = value.strip()
    check_seen(name)
    if not name or len(name) > LONGEST_ADDRESS or any(sign in name for sign in "@*/:"):
        raise BadValue(said("must be a user of the operating system, such as alice or OFFICE\\alice, a uid or a SID"))
    return name


OsUser = Annotated[str, AfterValidator(_os_user)]


def same_name(username: str) -> str:
    """The form in which two user names are compared: spelling of accents, case and outer spaces do not matter.

    A name that is longer than any account's is left as it is: a mail program can send a text whose normalization takes
    time quadratic in its length, and it would block the event loop meanwhile.
    """
    if len(username) > LONGEST_ADDRESS:
        return username
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", username).strip().casefold())


def _absolute(value: str, info: ValidationInfo) -> str:
    """Relative paths are relative to the YAML's directory, which the loader gives as context."""
    text = value.strip()
    check_seen(text)
    if not text:
        raise BadValue(said("must be the path of a file"))
    path = from_home(text)
    directory = (info.context or {}).get("directory")
    return str(path if directory is None else Path(directory) / path)


def from_home(path: str) -> Path:
    """With the home directory in place of ~ or ~user. Raises: BadValue."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise BadValue(said("begins with ~, and there is no such home directory; write the whole path")) from None


FilePath = Annotated[str, AfterValidator(_absolute)]
"""Absolute once loaded."""


def is_loopback(host: str) -> bool:
    """True for localhost and for addresses that only this machine can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _day(value: Any) -> date:
    try:
        return date.fromisoformat(value.strip()) if isinstance(value, str) else value
    except ValueError:
        raise BadValue(said("must be a day such as 2027-01-31")) from None


Day = Annotated[date, BeforeValidator(_day)]
