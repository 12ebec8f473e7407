"""One text that can be forwarded: versions, configuration and findings, without anything that is secret."""

from __future__ import annotations

import os
import platform
import re
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from bridge import __version__
from bridge.advice.base import Turn
from bridge.advice.said import said
from bridge.config.schema import Config
from bridge.control.contract import Finding
from bridge.observe.scrubber import scrubbed
from bridge.secret import Secret

LOG_LINES = 200
LOG_OCTETS = 64 * 1024
"""From the end of a log file: some hours of a small bridge."""

TITLE = "mail-bridge report of {time}"
NO_SECRETS = "Without passwords, tokens and client secrets; addresses are shortened. Read it before you forward it."
NO_SECRETS_FULL = "Without passwords, tokens and client secrets; addresses are complete. Read it before you forward it."
NO_LOG = (
    "There is no log file: mail-bridge logs to standard error. A service manager keeps that: journalctl -u "
    "mail-bridge, or docker logs. Where nobody does, as for a task of Windows, `log: {file: mail-bridge.log}` keeps it."
)
NO_CONFIGURATION = "It cannot be used; the findings say why."

WHOSE_TURN = {
    Turn.USER: said("the person whose mailbox it is must act"),
    Turn.APP_ADMIN: said("the administrator of mail-bridge must act"),
    Turn.TENANT_ADMIN: said("the organization's mail administrator must act"),
}

_ADDRESS = re.compile(r"(?<![\w.+%-])([\w.+%'-]+)(@|%40)([\w-]+(?:\.[\w-]+)*)")
_SECRET_KEY = re.compile(r"(?i)secret|password|token$|^key$")


def is_report(beginning: bytes) -> bool:
    """True for what report() has made."""
    return beginning.startswith(TITLE.partition("{")[0].encode())


@dataclass(frozen=True, slots=True)
class Case:
    """What a report is about."""

    findings: Sequence[Finding]
    config: Config | None
    """None if it cannot be used."""
    config_name: str
    log_file: Path | None = None


def report(case: Case, *, is_full: bool = False) -> str:
    """The whole text; `is_full` leaves addresses as they are."""
    lines = [
        TITLE.format(time=datetime.now().astimezone().isoformat(timespec="seconds")),
        NO_SECRETS_FULL if is_full else NO_SECRETS,
        *("", "== versions", *_versions(os.environ)),
        *("", "== findings", *(line_of(finding) for finding in case.findings)),
        *("", f"== configuration ({case.config_name})"),
        *([NO_CONFIGURATION] if case.config is None else _lines(case.config, "")),
        *("", "== log", *_log(case.log_file)),
    ]
    text = redacted("\n".join(lines) + "\n", _secrets(case.config), is_full=is_full)
    return text.encode("utf-8", "backslashreplace").decode()  # a file's name may hold octets that UTF-8 cannot write


def line_of(finding: Finding) -> str:
    """One finding as a line for a terminal: outcome, what was looked at, the sentence, whose turn it is."""
    subject = f" {finding.subject}" if finding.subject else ""
    turn = f"  [{WHOSE_TURN[finding.turn]}]" if finding.turn in WHOSE_TURN else ""
    return f"{finding.outcome.value:<7} {finding.check}{subject}: {finding.detail}{turn}"


def redacted(text: str, secrets: Sequence[Secret[str]] = (), *, is_full: bool = False) -> str:
    """The text without these secrets, anything that looks like one, and the home directory; addresses shortened to
    a…e@example.com."""
    for secret in secrets:
        for part in _telling_parts(secret.reveal()):
            text = text.replace(part, "…")
    text = "\n".join(scrubbed(line) for line in text.split("\n"))
    for home in sorted(_homes(), key=len, reverse=True):
        text = text.replace(home, "~")
    return text if is_full else _ADDRESS.sub(lambda found: shortened(found[1]) + found[2] + found[3], text)


def _telling_parts(secret: str) -> Iterator[str]:
    """The whole secret and, of a URL, the parts that libraries quote. A part of three letters is no secret, and occurs
    in other words."""
    found = [secret]
    if "://" in secret:
        url = urlsplit(secret)
        found += [url.password or "", unquote(url.password or "")]
        found += [url.path.strip("/"), url.query] if url.scheme.startswith("http") else []
    yield from (part for part in found if len(part) > 3)


def shortened(name: str) -> str:
    """The part of an address before the @ as `a…e`; a very short one shows its first letter only."""
    return f"{name[0]}…{name[-1]}" if len(name) > 2 else f"{name[0]}…"


def _homes() -> Iterator[str]:
    for variable in ("HOME", "USERPROFILE"):
        home = os.environ.get(variable, "").rstrip("/\\")
        if len(home) > 3:  # not "/" or "C:"
            yield home


def _versions(environ: Mapping[str, str]) -> Iterator[str]:
    yield f"mail-bridge {__version__}"
    yield f"Python {platform.python_version()} ({platform.python_implementation()}), {sys.platform}"
    yield ssl.OPENSSL_VERSION
    yield f"{platform.system()} {platform.release()} {platform.version()}, {platform.machine()}"
    yield "standard encoding {}, locale {}".format(sys.getfilesystemencoding(), environ.get("LANG") or "not set")
    proxies = sorted(name for name in environ if name.lower() in {"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
    yield f"proxies of the environment: {', '.join(proxies) or 'none'}"
    for name in _dependencies():
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield f"{name} is not installed"


def _dependencies() -> list[str]:
    """The dependencies that our own distribution declares; none where it was not installed as one."""
    try:
        declared = metadata.requires("mail-bridge") or []
    except metadata.PackageNotFoundError:
        return []
    names = (re.match(r"[\w.-]+", line) for line in declared if "extra ==" not in line)
    return sorted(name[0] for name in names if name is not None)


def _lines(value: Any, indent: str) -> Iterator[str]:
    """Like the YAML: the settings that were given, with their values, unless these are secret."""
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields if name in value.model_fields_set}
    if isinstance(value, Mapping):
        for key, child in value.items():
            if isinstance(child, (BaseModel, Mapping)):
                yield f"{indent}{key}:"
                yield from _lines(child, indent + "  ")
            elif isinstance(child, tuple) and child and isinstance(child[0], BaseModel):
                yield f"{indent}{key}:"
                for item in child:
                    yield f"{indent}  -"
                    yield from _lines(item, indent + "    ")
            else:
                yield f"{indent}{key}: {_shown(str(key), child)}"


def _shown(key: str, value: Any) -> str:
    if isinstance(value, Secret):
        return "(set)"
    if _SECRET_KEY.search(key) and isinstance(value, str):
        return "(set)"
    if key == "command" and len(value) > 1:
        return f"[{value[0]}, …]"  # its arguments may be anything
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(key, item) for item in value)}]"
    text = str(getattr(value, "value", value))
    if "://" in text and (parts := urlsplit(text)).query:
        return f"{parts.scheme}://{parts.netloc}{parts.path}?…"
    return text


def _secrets(value: Any) -> list[Secret[str]]:
    """All secrets in the configuration, at any depth."""
    if isinstance(value, Secret):
        return [value]
    if isinstance(value, BaseModel):
        return [found for name in type(value).model_fields for found in _secrets(getattr(value, name))]
    if isinstance(value, Mapping):
        return [found for item in value.values() for found in _secrets(item)]
    if isinstance(value, tuple):
        return [found for item in value for found in _secrets(item)]
    return []


def _log(file: Path | None) -> list[str]:
    if file is None:
        return [NO_LOG]
    try:
        with file.open("rb") as stream:
            stream.seek(max(file.stat().st_size - LOG_OCTETS, 0))
            content = stream.read(LOG_OCTETS)
    except OSError as problem:
        return [f"{file.name} cannot be read: {problem.strerror}"]
    return [f"the last lines of {file.name}:", *content.decode("utf-8", "replace").splitlines()[-LOG_LINES:]]
