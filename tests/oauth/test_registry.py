"""Which adapter the registry creates for a `kind`, and its fingerprint."""

import subprocess
import sys

import pytest

from bridge.clock import SystemClock
from bridge.config.generic import GenericProvider
from bridge.config.google import GoogleProvider
from bridge.config.microsoft import MicrosoftProvider
from bridge.config.provider import Flow
from bridge.config.providers import ProviderConfig
from bridge.oauth import registry
from bridge.oauth.base import BrowserProvider, DeviceProvider
from bridge.secret import Secret

GENERIC = GenericProvider(
    kind="oauth2",
    client_id="id",
    client_secret=Secret("s"),
    authorization_url="https://idp.example/a",
    device_url="https://idp.example/d",
    token_url="https://idp.example/t",
    scopes=("mail",),
)
CONFIGS: dict[str, ProviderConfig] = {
    "google": GoogleProvider(kind="google", client_id="id", client_secret=Secret("s")),
    "microsoft": MicrosoftProvider(kind="microsoft", client_id="id", tenant="contoso.com"),
    "microsoft device": MicrosoftProvider(kind="microsoft", client_id="id", tenant="contoso.com", flow=Flow.DEVICE),
    "microsoft client_credentials": MicrosoftProvider(
        kind="microsoft", client_id="id", client_secret=Secret("s"), tenant="contoso.com", flow=Flow.CLIENT_CREDENTIALS
    ),
    "oauth2": GENERIC,
    "oauth2 device": GENERIC.model_copy(update={"flow": Flow.DEVICE}),
    "oauth2 client_credentials": GENERIC.model_copy(update={"flow": Flow.CLIENT_CREDENTIALS}),
}
WORKSPACE = GoogleProvider(kind="google", flow=Flow.SERVICE_ACCOUNT, service_account_file="key.json")


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


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_order_in_which_scopes_are_written_asks_nobody_to_sign_in_again(kind: str) -> None:
    def fingerprint(*scopes: str) -> str:
        return registry.create("p", CONFIGS[kind].model_copy(update={"scopes": scopes}), SystemClock()).fingerprint

    assert fingerprint("a", "b") == fingerprint("b", "a") != fingerprint("a")


@pytest.mark.parametrize("kind", ["google", "oauth2"])
@pytest.mark.parametrize("place", ["authorization_url", "token_url"])
def test_at_another_address_it_is_another_client(kind: str, place: str) -> None:
    def client(**changes: object) -> str:
        return registry.create("p", CONFIGS[kind].model_copy(update=changes), SystemClock()).client

    assert client() != client(**{place: "https://elsewhere.example/"})


@pytest.mark.parametrize("kind", CONFIGS)
def test_with_other_scopes_the_client_is_the_same_and_with_another_id_it_is_not(kind: str) -> None:
    def client(**changes: object) -> str:
        return registry.create("p", CONFIGS[kind].model_copy(update=changes), SystemClock()).client

    assert client() == client(scopes=("https://outlook.office.com/SMTP.Send",), client_secret=Secret("another"))
    assert client() != client(client_id="other")


@pytest.mark.parametrize(("other", "is_shared"), [("123-b.apps.example", True), ("124-b.apps.example", False)])
def test_at_google_the_clients_of_one_project_share_a_persons_consent(other: str, is_shared: bool) -> None:
    def consent(client_id: str) -> str:
        config = CONFIGS["google"].model_copy(update={"client_id": client_id})
        return registry.create("p", config, SystemClock()).consent

    assert (consent("123-a.apps.example") == consent(other)) == is_shared


def test_a_service_account_is_known_by_its_key_files_name_and_not_by_what_is_in_it() -> None:
    """The file is read only later and may be replaced; in this test it does not exist."""

    def fingerprint(**changes: object) -> str:
        return registry.create("p", WORKSPACE.model_copy(update=changes), SystemClock()).fingerprint

    assert fingerprint() == fingerprint(ca_file="x.pem", proxy="http://p:1")
    assert fingerprint() != fingerprint(service_account_file="other.json")
    assert fingerprint() != fingerprint(scopes=("https://www.googleapis.com/auth/gmail.imap_admin",))


def test_what_was_granted_to_a_person_is_not_what_an_app_gets() -> None:
    prints = {kind: registry.create("p", CONFIGS[kind], SystemClock()).fingerprint for kind in CONFIGS}
    assert prints["oauth2"] == prints["oauth2 device"]
    assert prints["oauth2"] != prints["oauth2 client_credentials"]


@pytest.mark.parametrize(
    ("config", "offers"),
    [
        (CONFIGS["google"], (True, False, False)),
        (WORKSPACE, (False, False, True)),
        (CONFIGS["oauth2"], (True, False, False)),
        (CONFIGS["oauth2 device"], (False, True, False)),
        (CONFIGS["oauth2 client_credentials"], (False, False, True)),
    ],
)
def test_an_adapter_offers_what_its_flow_can_do_and_no_more(
    config: ProviderConfig, offers: tuple[bool, bool, bool]
) -> None:
    provider = registry.create("p", config, SystemClock())
    kinds = isinstance(provider, BrowserProvider), isinstance(provider, DeviceProvider), provider.is_unattended
    assert kinds == offers


def test_building_a_provider_loads_none_of_the_heavy_libraries() -> None:
    program = (
        "import sys\n"
        "from bridge.clock import SystemClock\n"
        "from bridge.config.google import GoogleProvider\n"
        "from bridge.config.microsoft import MicrosoftProvider\n"
        "from bridge.oauth import registry\n"
        "assert 'requests' not in sys.modules\n"
        "registry.create('p', MicrosoftProvider(kind='microsoft', client_id='i', tenant='t.example'), SystemClock())\n"
        "account = GoogleProvider(kind='google', flow='service_account', service_account_file='absent.json')\n"
        "registry.create('p', account, SystemClock())\n"
        "print([name for name in ('msal', 'google.auth', 'oauthlib', 'requests') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
