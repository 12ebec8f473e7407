"""kind to adapter."""

import subprocess
import sys

import pytest

from bridge.clock import SystemClock
from bridge.config.providers import GenericProvider, GoogleProvider, MicrosoftProvider
from bridge.oauth import registry
from bridge.secret import Secret

CONFIGS: dict[str, registry.ProviderSettings] = {
    "google": GoogleProvider(kind="google", client_id="id", client_secret=Secret("s")),
    "microsoft": MicrosoftProvider(kind="microsoft", client_id="id", tenant="contoso.com"),
    "oauth2": GenericProvider(
        kind="oauth2",
        client_id="id",
        authorization_url="https://idp.example/a",
        token_url="https://idp.example/t",
        scopes=("mail",),
    ),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_kind_has_an_adapter(kind: str) -> None:
    provider = registry.create("mine", CONFIGS[kind], SystemClock())
    assert provider.name == "mine"
    assert len(provider.fingerprint) == 64


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_new_client_secret_keeps_the_fingerprint_and_a_new_client_id_does_not(kind: str) -> None:
    def fingerprint(**changes: object) -> str:
        return registry.create("p", CONFIGS[kind].model_copy(update=changes), SystemClock()).fingerprint

    assert fingerprint() == fingerprint(client_secret=Secret("another"), ca_file="x.pem", proxy="http://p:1")
    assert fingerprint() != fingerprint(client_id="other")
    assert fingerprint() != fingerprint(scopes=("https://outlook.office.com/SMTP.Send",))


def test_building_a_provider_loads_none_of_the_heavy_libraries() -> None:
    program = (
        "import sys\n"
        "from bridge.clock import SystemClock\n"
        "from bridge.config.providers import MicrosoftProvider\n"
        "from bridge.oauth import registry\n"
        "assert 'requests' not in sys.modules\n"
        "registry.create('p', MicrosoftProvider(kind='microsoft', client_id='i', tenant='t.example'), SystemClock())\n"
        "print([name for name in ('msal', 'google.auth', 'oauthlib') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
