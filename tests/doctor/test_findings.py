"""What a finding says of a problem."""

from __future__ import annotations

from bridge.advice.diagnosis import Diagnosis
from bridge.doctor.findings import diagnosis_text


def test_the_words_of_the_other_side_follow_where_it_has_said_any() -> None:
    ours = Diagnosis.of("sign_in.cancelled")
    assert str(diagnosis_text(ours, "english")) == ours.sentence()
    theirs = Diagnosis.of("sign_in.cancelled", "no such thing")
    assert str(diagnosis_text(theirs, "english")) == f"{ours.sentence()} (no such thing)"
    assert str(diagnosis_text(None, "english")) == "english"
