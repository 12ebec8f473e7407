"""A sentence with its values, rendered in any language."""

from __future__ import annotations

import pytest

from bridge.advice.said import Said, as_said, said
from bridge.control import wire
from bridge.errors import BridgeError, ConfigError, StoreCorrupt, StoreUnavailable

FRENCH = {
    "{place} holds {found} bytes": "{place} contient {found} octets",
    "the key file {file}": "le fichier de clé {file}",
}


def french(sentence: str) -> str:
    return FRENCH.get(sentence, sentence)


INNER = said("the key file {file}", file="/{x}/%s")
OUTER = said("{place} holds {found} bytes", place=INNER, found=3)


def test_a_sentence_within_a_sentence_is_told_in_the_same_language() -> None:
    assert str(OUTER) == "the key file /{x}/%s holds 3 bytes"
    assert OUTER.told(french) == "le fichier de clé /{x}/%s contient 3 octets"
    assert as_said("{as it is}").told(french) == "{as it is}"


@pytest.mark.parametrize("arguments", [(), (("file", "x"), ("more", "y")), (("other", "x"),)])
def test_arguments_that_do_not_fit_are_refused(arguments: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Said("the key file {file}", arguments)


def test_what_is_more_than_a_name_is_no_placeholder() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Said("{x.__class__}", (("x.__class__", "y"),))


@pytest.mark.parametrize("problem", [StoreUnavailable(OUTER), BridgeError(OUTER), ConfigError([OUTER, "plain"])])
def test_an_error_is_told_in_another_process_as_in_its_own(problem: BridgeError) -> None:
    found = wire.decode_error(wire.loads(wire.dumps(wire.encode_error(problem))))
    assert type(found) is type(problem)
    assert isinstance(found, BridgeError)
    assert (str(found), found.said, found.diagnosis) == (str(problem), problem.said, problem.diagnosis)
    if isinstance(problem, ConfigError):
        assert isinstance(found, ConfigError)
        assert found.sentences == problem.sentences


@pytest.mark.parametrize("data", [{"sentence": "{a}", "arguments": []}, {"sentence": "{a"}, 3, "text"])
def test_a_sentence_from_elsewhere_that_does_not_hold_together_is_refused(data: object) -> None:
    sent = wire.encode_error(BridgeError("x")) | {"said": data}
    assert isinstance(wire.decode_error(sent), wire.WireError)


def test_trouble_of_the_store_has_its_row_with_the_trouble_in_it() -> None:
    problem = StoreCorrupt(OUTER)
    assert problem.diagnosis is not None
    assert "contient 3 octets" in problem.diagnosis.told(french)
    assert "holds 3 bytes" in problem.diagnosis.told()
