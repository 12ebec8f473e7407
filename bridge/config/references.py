"""`${ENV}`, `${file:path}` and `${keyring:name}` to what they stand for; `$${` is a literal `${`."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from bridge.advice.said import Said, as_said, said
from bridge.advice.system import system_reason
from bridge.errors import BridgeError, KeyringMissing
from bridge.files.existing import is_directory, is_file
from bridge.shortage import may_pass

LONGEST_FILE = 64 * 1024
"""Bytes of a file named by a reference; a secret has less than 4,096, and the path may name anything."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"\$\$\{|\$\{")

ReadKeyring = Callable[[str], str | None]


def named_variables(path: Path) -> set[str]:
    """Every NAME that stands as `${NAME}` in a file, also in a comment; none if it cannot be read.

    For a command that does not load the configuration, and must not hand its client secrets to the browser it opens.
    """
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return set()
    return set(re.findall(rf"\$\{{({_VARIABLE.pattern})\}}", text))


class Unresolved(Exception):
    """A reference leads nowhere; the text names it and the remedy, and never what another one resolved to."""

    def __init__(self, sentence: Said, *, may_pass: bool = False, is_locked: bool = False) -> None:
        """Args: may_pass, True if the same reference may lead somewhere in a moment, and nobody has to correct it;
        is_locked, if somebody must unlock the keyring first."""
        super().__init__(str(sentence))
        self.said = sentence
        self.may_pass = may_pass
        self.is_locked = is_locked


class References:
    """Resolves the references of one file; asks each source once, since a keyring may wait for a person."""

    def __init__(self, directory: Path, environ: Mapping[str, str], read_keyring: ReadKeyring | None) -> None:
        self._directory = directory
        self._environ = environ
        self._read_keyring = read_keyring
        self._known: dict[str, str | Unresolved] = {}

    def resolve(self, text: str) -> str:
        """The text with all its references replaced in one pass: inserted text is not searched again.

        Raises: Unresolved.
        """
        parts: list[str] = []
        at = 0
        while token := _TOKEN.search(text, at):
            parts.append(text[at : token.start()])
            at = token.end()
            if token[0] == "$${":
                parts.append("${")
                continue
            end = text.find("}", at)
            if end < 0:
                raise Unresolved(said("the closing }} after ${{ is missing; for a literal ${{ write $${{"))
            parts.append(self._value(text[at:end]))
            at = end + 1
        return "".join([*parts, text[at:]])

    def _value(self, body: str) -> str:
        if body not in self._known:
            try:
                self._known[body] = self._looked_up(body)
            except Unresolved as problem:
                self._known[body] = problem
        known = self._known[body]
        if isinstance(known, Unresolved):
            raise known
        return known

    def _looked_up(self, body: str) -> str:
        source, colon, name = body.partition(":")
        if "${" in body:
            raise Unresolved(said("a reference cannot stand inside another; for a literal ${{ write $${{"))
        if colon and source == "file" and name.strip():
            return self._from_file(name.strip())
        if colon and source == "keyring" and name.strip():
            return self._from_keyring(name.strip())
        if not _VARIABLE.fullmatch(body):
            raise Unresolved(
                said(
                    "a reference is ${{NAME}} for an environment variable, ${{file:path}} or ${{keyring:name}}; "
                    "for a literal ${{ write $${{"
                )
            )
        if value := self._environ.get(body):
            return value
        if body in self._environ:
            raise Unresolved(
                said(
                    "the environment variable {name} is empty; set it where mail-bridge starts, or use ${{file:path}} "
                    "or ${{keyring:name}} in its place",
                    name=body,
                )
            )
        raise Unresolved(
            said(
                "the environment variable {name} is not set; set it where mail-bridge starts, or use ${{file:path}} "
                "or ${{keyring:name}} in its place",
                name=body,
            )
        )

    def _from_file(self, name: str) -> str:
        try:
            path = self._directory / Path(name).expanduser()
            if is_directory(path):
                raise Unresolved(said("{path} is a directory; name a file", path=path))
            if not is_file(path):
                raise Unresolved(
                    said(
                        "there is no file {path}; create it, or correct the path (relative to the directory of the "
                        "YAML file)",
                        path=path,
                    )
                )
            with path.open("rb") as file:
                content = file.read(LONGEST_FILE + 1)
        except (OSError, ValueError, RuntimeError) as error:
            reason = system_reason(error) if isinstance(error, OSError) else said("it is not a valid path")
            # Not chained: whoever prints an exception's chain must find our sentences only.
            problem = Unresolved(
                said(
                    "the file {name} cannot be read ({reason}); let mail-bridge's user read it",
                    name=repr(name),
                    reason=reason,
                ),
                may_pass=may_pass(error),
            )
        else:
            return _file_text(content, path)
        raise problem

    def _from_keyring(self, name: str) -> str:
        if self._read_keyring is None:
            raise Unresolved(
                said("there is no keyring here; use ${{ENV}} or ${{file:path}} in place of ${{keyring:…}}")
            )
        try:
            value = self._read_keyring(name)
        except BridgeError as error:
            is_locked = error.temporary and not isinstance(error, KeyringMissing)
            problem = Unresolved(as_said(error.words), may_pass=is_locked, is_locked=is_locked)
        else:
            if value:
                return value
            command = f"{_keyring_program()} set mail-bridge {name}"
            problem = Unresolved(
                said("the keyring has no entry {name}; store it with: {command}", name=repr(name), command=command)
                if value is None
                else said(
                    "the keyring's entry {name} is empty; store it again with: {command}",
                    name=repr(name),
                    command=command,
                )
            )
        raise problem


def _keyring_program() -> str:
    """The one that was installed with mail-bridge: in a virtual environment no shell finds it by its name alone."""
    beside = shutil.which("keyring", path=str(Path(sys.executable).parent)) or "keyring"
    return f'"{beside}"' if " " in beside else beside


def _file_text(content: bytes, path: Path) -> str:
    if len(content) > LONGEST_FILE:
        most = LONGEST_FILE // 1024
        raise Unresolved(
            said("the file {path} is larger than {most} KiB, which is too much for a setting", path=path, most=most)
        )
    text: str | None = None
    with suppress(UnicodeDecodeError):
        text = content.decode("utf-8-sig")
    if text is None:  # raised here and not in the handler, whose exception holds the bytes
        raise Unresolved(said("the file {path} is not UTF-8 text; save it as UTF-8", path=path))
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text:
        raise Unresolved(said("the file {path} is empty", path=path))
    return text
