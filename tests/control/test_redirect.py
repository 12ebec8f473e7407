"""Which parameters a redirect may carry, and which of the addresses that people paste are accepted."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.control.redirect import FIELDS, NO_ANSWER, PARAMETERS, VALUE_LIMIT, accepted, fields_of, pasted

GOOD = "http://localhost:3017/?code=CANARY%2Fa&state=s-1&session_state=x"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"  {GOOD}\r\n",
        f'"{GOOD}"',
        f"<{GOOD}>",
        GOOD.replace("&state", "\n&sta\r\n te"),  # wrapped by a terminal or a mail program
        GOOD + "#",
        GOOD.removeprefix("http://localhost:3017/"),
        GOOD + "&utm_source=elsewhere",
    ],
)
def test_an_address_is_read_however_it_was_copied(text: str) -> None:
    assert pasted(text) == {"code": "CANARY/a", "state": "s-1", "session_state": "x"}


def test_a_refusal_is_an_answer_too() -> None:
    assert pasted("http://localhost:3017/?error=access_denied&state=s") == {"error": "access_denied", "state": "s"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4/0AX4XfWh-just-the-code",
        "https://login.provider.example/authorize?client_id=a&state=s",
        "http://localhost:3017/?code=c",
        "http://localhost:3017/?state=s",
        "http://localhost:3017/?code=c&code=d&state=s",
        f"http://localhost:3017/?state=s&code={'c' * (VALUE_LIMIT + 1)}",
        "http://localhost:3017/?" + "&".join(f"f{n}=1" for n in range(100)) + "&code=c&state=s",
        "http://localhost:3017/?code=%ff&state=s",
    ],
)
def test_anything_else_is_explained_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="begins with the redirect URI") as caught:
        pasted(text)
    assert str(caught.value) == NO_ANSWER


@given(
    st.dictionaries(st.sampled_from(sorted(PARAMETERS)), st.text(max_size=50)), st.dictionaries(st.text(), st.text())
)
def test_what_a_provider_sends_arrives_as_it_was_and_nothing_else_does(
    sent: dict[str, str], more: dict[str, str]
) -> None:
    others = {name: value for name, value in more.items() if name not in PARAMETERS}
    try:
        query = urlencode({**others, **sent})
    except UnicodeEncodeError:
        return
    found = accepted(fields_of(query))
    is_answer = sent.get("state", "") != "" and not {"code", "error"}.isdisjoint(sent)
    assert found == (sent if is_answer and len(others) + len(sent) <= FIELDS else None)


@given(st.text(alphabet="codestar=&%;+ \xff0x1é?", max_size=60))
def test_any_query_is_an_answer_or_none(query: str) -> None:
    found = accepted(fields_of(query))
    assert found is None or (found["state"] != "" and set(found) <= PARAMETERS)


@given(st.text())
def test_any_text_gives_parameters_or_that_sentence(text: str) -> None:
    try:
        found = pasted(text)
    except ValueError as problem:
        assert str(problem) == NO_ANSWER
    else:
        assert found["state"]
