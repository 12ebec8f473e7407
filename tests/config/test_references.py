"""`${…}`: what a reference becomes, and the message for one that leads nowhere."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from bridge.config.load import parse_config
from bridge.errors import ConfigError, KeyringMissing, StoreUnavailable
from tests.config.bad_values import GOOD
from tests.config.loading import CANARY, HERE, edited, load, problems


def secret_of(written: str, directory: Path = HERE, **environ: str) -> str:
    provider = load(edited(("client_secret: text", f"client_secret: {written}")), directory, **environ)
    secret = provider.config.providers["gmail"].client_secret
    assert secret is not None
    return secret.reveal()


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("${A}", "one"),
        ("x-${A}-${B}-y", "x-one-${A}-y"),  # a reference in an inserted value stays as it is
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("a$b {A} $A", "a$b {A} $A"),
        ("${keyring:office365}", CANARY),
        ("'${file:secret.txt}'", "from file"),
        ("'${file:two.txt}'", "two  words"),
    ],
)
def test_references_resolve_once(written: str, resolved: str, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(b"\xef\xbb\xbffrom file\r\n")
    (tmp_path / "two.txt").write_bytes(b"two  words\n")
    assert secret_of(written, tmp_path, A="one", B="${A}") == resolved


def test_a_number_may_come_from_the_environment() -> None:
    text = edited(("client_secret: text", "client_secret: text\n    imap: {port: '${PORT}'}"))
    assert load(text, PORT="1993").config.providers["gmail"].imap is not None


def test_a_named_secret_is_asked_for_once() -> None:
    asked: list[str] = []

    def read(name: str) -> str:
        asked.append(name)
        return CANARY

    text = edited(("client_secret: text", "client_secret: '${keyring:a}${keyring:a}'"))
    parse_config(text, directory=HERE, environ={}, read_keyring=read)
    assert asked == ["a"]


GRAMMAR = (
    "a reference is ${NAME} for an environment variable, ${file:path} or ${keyring:name}; for a literal ${ write $${"
)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            "${NOPE}",
            "the environment variable NOPE is not set; set it where mail-bridge starts, or use ${file:path} or "
            "${keyring:name} in its place",
        ),
        (
            "${EMPTY}",
            "the environment variable EMPTY is empty; set it where mail-bridge starts, or use ${file:path} or "
            "${keyring:name} in its place",
        ),
        (
            "'${file:none.txt}'",
            "there is no file {directory}/none.txt; create it, or correct the path (relative to the directory of the "
            "YAML file)",
        ),
        ("'${file:.}'", "{directory} is a directory; name a file"),
        ("'${file:empty.txt}'", "the file {directory}/empty.txt is empty"),
        ("'${file:binary}'", "the file {directory}/binary is not UTF-8 text; save it as UTF-8"),
        ("'${file:large}'", "the file {directory}/large is larger than 64 KiB, which is too much for a setting"),
        ("'${env:A}'", GRAMMAR),
        ("'${}'", GRAMMAR),
        ("'${A B}'", GRAMMAR),
        ("'${file:}'", GRAMMAR),
        ("${A", "the closing } after ${ is missing; for a literal ${ write $${"),
        ("'${file:${A}}'", "a reference cannot stand inside another; for a literal ${ write $${"),
    ],
)
def test_a_reference_that_leads_nowhere_names_the_remedy(written: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"\n")
    (tmp_path / "binary").write_bytes(b"CANARY-s3cret\xff")
    (tmp_path / "large").write_bytes(b"x" * (64 * 1024 + 1))
    found = problems(edited(("client_secret: text", f"client_secret: {written}")), tmp_path, A=CANARY, EMPTY="")
    expected = sentence.replace("{directory}/", f"{tmp_path}{os.sep}").replace("{directory}", str(tmp_path))
    assert found == [f"config.yaml:5:5: providers.gmail.client_secret: {expected}"]


@pytest.mark.parametrize(("where", "quote"), [("bin", ""), ("Program Files", '"'), (None, "")])
def test_an_entry_that_is_missing_is_stored_with_a_command_that_is_there(
    where: str | None, quote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its whole path: the programs of a virtual environment are not in the shell's PATH."""
    program = "keyring"
    monkeypatch.setattr(sys, "executable", str(tmp_path / (where or "elsewhere") / "python"))
    if where is not None:
        file = tmp_path / where / ("keyring.exe" if os.name == "nt" else "keyring")
        file.parent.mkdir()
        file.touch(0o755)
        found = shutil.which("keyring", path=str(file.parent))
        assert found is not None
        program = f"{quote}{found}{quote}"
    assert problems(edited(("client_secret: text", "client_secret: '${keyring:nope}'")), tmp_path) == [
        "config.yaml:5:5: providers.gmail.client_secret: the keyring has no entry 'nope'; store it with: "
        f"{program} set mail-bridge nope"
    ]


def test_without_a_keyring_the_other_kinds_of_reference_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(edited(("text", "'${keyring:a}'")), directory=HERE, environ={})
    assert str(caught.value) == (
        "config.yaml:5:5: providers.gmail.client_secret: there is no keyring here; use ${ENV} or ${file:path} in place "
        "of ${keyring:…}"
    )


def test_a_keyring_that_does_not_answer_is_a_problem_with_a_place() -> None:
    def read(name: str) -> str:
        raise StoreUnavailable("the OS keyring does not answer; unlock it")

    with pytest.raises(ConfigError) as caught:
        parse_config(edited(("text", "'${keyring:a}'")), directory=HERE, environ={}, read_keyring=read)
    assert str(caught.value) == (
        "config.yaml:5:5: providers.gmail.client_secret: the OS keyring does not answer; unlock it"
    )


def test_a_reference_in_a_key_is_refused() -> None:
    assert problems(f"{GOOD}log: {{'${{A}}': info}}\n", A=CANARY) == [
        "config.yaml:9:7: log: a ${…} reference can stand in a value, not in a key"
    ]


@pytest.mark.parametrize(
    ("trouble", "besides", "may_pass", "is_locked"),
    [
        (StoreUnavailable("it is locked"), "", True, True),
        (StoreUnavailable("it is locked"), "\nnonsense: 1\n", False, True),
        (KeyringMissing("there is none"), "", False, False),
    ],
)
def test_only_a_keyring_that_may_be_unlocked_is_worth_waiting_for(
    trouble: StoreUnavailable, besides: str, may_pass: bool, is_locked: bool
) -> None:
    def read(name: str) -> str | None:
        raise trouble

    with pytest.raises(ConfigError) as caught:
        parse_config(edited(("text", "'${keyring:a}'")) + besides, directory=HERE, environ={}, read_keyring=read)
    assert (caught.value.may_pass, caught.value.is_locked) == (may_pass, is_locked)
