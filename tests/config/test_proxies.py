"""Which proxy the environment variables choose for a request."""

from __future__ import annotations

import pytest

from bridge.config.proxies import environment_proxy


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_any_it_goes_directly() -> None:
    assert environment_proxy("https://idp.example/") is None


def test_the_scheme_picks_and_no_proxy_excepts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert environment_proxy("https://idp.example/") == "http://proxy.example:3128"
    assert environment_proxy("http://idp.example/") is None
    assert environment_proxy("https://a.inside.example/") is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    assert environment_proxy(f"https://{host}:8443/") is None
    assert environment_proxy("https://idp.example/") == "http://proxy.example:3128"
