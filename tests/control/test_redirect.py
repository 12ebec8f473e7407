"""What a redirect may carry, and what people copy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.control.redirect import NO_ANSWER, VALUE_LIMIT, pasted

GOOD = "http://localhost:3017/?code=CANARY%2Fa&state=s-1&session_state=x"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"  {GOOD}\r\n",
        f'"{GOOD}"',
        f"<{GOOD}>",
        GOOD.replace("&state", "\n&sta\r\n te"),  # as a terminal or a mail program wraps it
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


@given(st.text())
def test_any_text_gives_parameters_or_that_sentence(text: str) -> None:
    try:
        found = pasted(text)
    except ValueError as problem:
        assert str(problem) == NO_ANSWER
    else:
        assert found["state"]
