"""What people have configured in email-oauth2-proxy, and what the import makes of it: our loader loads each result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.config.endpoints import effective_endpoint
from bridge.config.generic import GenericProvider
from bridge.config.google import GoogleProvider
from bridge.config.importers.providers import SecretHome
from bridge.config.microsoft import MicrosoftProvider
from bridge.config.presets import MICROSOFT_AUTHORITY_HOST, Cloud, OAuth2Preset
from bridge.config.provider import Flow
from bridge.errors import ConfigError
from bridge.model import Protocol, TlsMode
from tests.config.importers.carried import FROM_THE_ADMIN, Carried, carry, write_service_account
from tests.config.importers.examples import (
    CANARY,
    GMAIL_SERVERS,
    MICROSOFT,
    OFFICE365_SERVERS,
    SERVICE_ACCOUNT,
    TOKENS,
    account,
    app_only,
    company,
    fastmail,
    gmail,
    office365,
    server,
    service_account,
    yahoo,
)
from tests.servers.ca import Authority

CATCH_ALL = "[emailproxy]\nallow_catch_all_accounts = True\n"


def addresses(carried: Carried) -> list[str]:
    return [account.address for account in carried.config.accounts]


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        carry(text)
    assert CANARY not in str(caught.value)
    return str(caught.value)


# --- providers ------------------------------------------------------------------------------------------------------


def test_gmail() -> None:
    carried = carry(GMAIL_SERVERS + gmail() + TOKENS)
    provider = carried.provider
    assert isinstance(provider, GoogleProvider)
    assert list(carried.config.providers) == ["gmail"]
    assert provider.client_id == "1234.apps.googleusercontent.com"
    assert carried.secret("alice@gmail.com") == f"{CANARY}-google"
    assert provider.scopes is None
    assert provider.smtp is None
    assert [door.address for door in carried.config.listeners.imap] == ["127.0.0.1:2993"]
    assert carried.config.listeners.pop3 == ()


def test_office365_in_the_browser() -> None:
    carried = carry(OFFICE365_SERVERS + office365() + TOKENS)
    provider = carried.provider
    assert isinstance(provider, MicrosoftProvider)
    assert provider.authority == f"https://{MICROSOFT_AUTHORITY_HOST}/contoso.com"
    assert provider.flow is Flow.BROWSER
    assert provider.scopes is None
    assert provider.imap is provider.pop3 is provider.smtp is None
    assert [door.port for door in carried.config.listeners.smtp] == [1587]


def test_office365_with_a_device_code_has_no_secret() -> None:
    url = MICROSOFT.format(tenant="common", leaf="devicecode")
    provider = carry(office365(tenant="common", permission_url=url, oauth2_flow="device", redirect_uri="")).provider
    assert isinstance(provider, MicrosoftProvider)
    assert provider.flow is Flow.DEVICE
    assert provider.client_secret is None


def test_a_device_code_of_a_provider_that_no_preset_knows() -> None:
    url = "https://login.example.org/device"
    text = company(permission_url=url, oauth2_flow="device") + server("IMAP-1993", "imap.example.org", 993)
    provider = carry(text).provider
    assert isinstance(provider, GenericProvider)
    assert (provider.flow, provider.device_url, provider.authorization_url) == (Flow.DEVICE, url, None)


def test_client_credentials_of_a_provider_that_no_preset_knows() -> None:
    text = company(permission_url="", oauth2_flow="client_credentials", oauth2_resource="https://mail.example.org")
    carried = carry(text + server("IMAP-1993", "imap.example.org", 993))
    assert carried.provider.flow is Flow.CLIENT_CREDENTIALS
    assert carried.secret("erin@example.org") == FROM_THE_ADMIN
    assert isinstance(carried.provider, GenericProvider)
    assert carried.provider.purpose == {"resource": "https://mail.example.org"}
    assert "oauth2_resource" not in carried.said


def test_two_accounts_whose_tokens_are_for_different_things_share_no_provider() -> None:
    one = company(oauth2_resource="https://one.example.org")
    other = one.replace("erin@", "frank@").replace("//one.", "//other.")
    carried = carry(one + other + server("IMAP-1993", "imap.example.org", 993))
    providers = carried.config.providers.values()
    assert [getattr(provider, "resource", "") for provider in providers] == [
        "https://one.example.org",
        "https://other.example.org",
    ]


def test_an_address_behind_a_container_is_left_out() -> None:
    carried = carry(gmail(redirect_listen_address="http://0.0.0.0:8080"))
    assert "redirect_listen_address" in carried.said


def test_office365_for_the_app_alone_with_a_secret() -> None:
    carried = carry(app_only())
    assert isinstance(carried.provider, MicrosoftProvider)
    assert carried.provider.flow is Flow.CLIENT_CREDENTIALS
    assert carried.secret("bob@contoso.com") == f"{CANARY}-microsoft"
    assert carried.provider.scopes is None
    assert "sign in once more" not in carried.said


def test_office365_for_the_app_alone_with_a_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.write_pair(tmp_path)
    text = app_only(client_secret="", jwt_certificate_path=certificate.name, jwt_key_path=str(key))
    provider = carry(text, directory=tmp_path).provider
    assert isinstance(provider, MicrosoftProvider)
    assert provider.client_certificate == str(certificate)
    assert provider.client_certificate_key == str(key)


@pytest.mark.parametrize("home", SecretHome)
def test_google_service_account_inside_the_file(home: SecretHome) -> None:
    carried = carry(service_account(client_secret=SERVICE_ACCOUNT), home=home)
    assert isinstance(carried.provider, GoogleProvider)
    assert carried.provider.flow is Flow.SERVICE_ACCOUNT
    assert CANARY not in carried.yaml
    assert bool(carried.imported.to_do) is (home is SecretHome.ENVIRONMENT)


def test_google_service_account_in_a_file_of_its_own(tmp_path: Path) -> None:
    path = write_service_account(tmp_path)
    provider = carry(service_account(client_id="file", client_secret=path.name), directory=tmp_path).provider
    assert isinstance(provider, GoogleProvider)
    assert provider.service_account_file == str(path)


@pytest.mark.parametrize(("host", "preset"), [("yahoo.com", OAuth2Preset.YAHOO), ("aol.com", OAuth2Preset.AOL)])
def test_yahoo_and_aol_are_presets(host: str, preset: OAuth2Preset) -> None:
    carried = carry(yahoo(f"carol@{host}", host))
    assert isinstance(carried.provider, GenericProvider)
    assert carried.provider.preset is preset
    assert "scopes" not in carried.yaml
    assert "https" not in "".join(line for line in carried.yaml.splitlines() if not line.strip().startswith("#"))


def test_fastmail_keeps_the_scopes_that_were_consented_to() -> None:
    carried = carry(fastmail())
    assert isinstance(carried.provider, GenericProvider)
    assert carried.provider.preset is OAuth2Preset.FASTMAIL
    assert carried.provider.scopes == (
        "https://www.fastmail.com/dev/protocol-imap",
        "https://www.fastmail.com/dev/protocol-smtp",
    )
    assert carried.provider.client_secret is None
    assert carried.provider.pkce


def test_a_provider_that_no_preset_knows_gets_the_servers_that_are_like_it() -> None:
    text = OFFICE365_SERVERS + server("IMAP-3993", "imap.example.org", 993) + server("POP-3995", "pop.other.net", 995)
    text += server("SMTP-3587", "smtp.example.org", 587, server_starttls="True")
    text += company() + office365() + company("x@other.net", token_url="https://id.other.net/token", client_id="x")
    carried = carry(text)
    provider = carried.config.providers["example"]
    imap, smtp = effective_endpoint(provider, Protocol.IMAP), effective_endpoint(provider, Protocol.SMTP)
    assert imap is not None
    assert smtp is not None
    assert (imap.host, imap.port, imap.tls) == ("imap.example.org", 993, TlsMode.IMPLICIT)
    assert (smtp.host, smtp.port, smtp.tls) == ("smtp.example.org", 587, TlsMode.STARTTLS)
    assert effective_endpoint(provider, Protocol.POP3) is None
    assert provider.effective_scopes == ("openid", "email", "mail", "offline_access")


def test_a_provider_without_any_server_is_left_out() -> None:
    carried = carry(GMAIL_SERVERS + gmail() + company())
    assert addresses(carried) == ["alice@gmail.com"]
    assert "[erin@example.org]" in carried.said
    assert "do not show which of them belong to it" in carried.said


def test_china_has_a_cloud_of_its_own() -> None:
    host = "https://login.partner.microsoftonline.cn/contoso.cn/oauth2/v2.0/"
    text = server("IMAP-1993", "partner.outlook.cn", 993)
    text += server("SMTP-1587", "smtp.partner.outlook.cn", 587, server_starttls="1")
    text += office365(
        "wang@contoso.cn",
        permission_url=f"{host}authorize",
        token_url=f"{host}token",
        oauth2_scope="https://partner.outlook.cn/.default offline_access",
    )
    provider = carry(text).provider
    assert isinstance(provider, MicrosoftProvider)
    assert provider.effective_cloud is Cloud.CHINA
    assert provider.scopes is None
    assert provider.imap is provider.smtp is None


def test_passwords_sent_to_microsoft_become_a_sign_in_in_the_browser() -> None:
    carried = carry(office365(permission_url="", oauth2_flow="password", oauth2_resource="https://partner.outlook.cn"))
    assert carried.provider.flow is Flow.BROWSER
    (sentence,) = (one for one in carried.imported.to_do if "oauth2_flow = password" in one)
    assert f"register the redirect URI {carried.provider.redirect_uri} (type Web" in sentence  # the slash matters


def test_the_redirect_uri_to_register_is_the_one_where_the_console_will_be() -> None:
    others = gmail(redirect_uri="http://localhost:8080")
    carried = carry(office365(permission_url="", redirect_uri="", oauth2_flow="password") + others)
    assert carried.config.console.port == 8080
    (sentence,) = (one for one in carried.imported.to_do if "oauth2_flow = password" in one)
    assert f"register the redirect URI {carried.config.providers['office365'].redirect_uri} (type Web" in sentence
    assert "3017" not in sentence + carried.said


def test_a_microsoft_url_of_version_1_becomes_version_2() -> None:
    base = f"https://{MICROSOFT_AUTHORITY_HOST}/common/oauth2/"
    carried = carry(office365(permission_url=f"{base}authorize", token_url=f"{base}token"))
    assert isinstance(carried.provider, MicrosoftProvider)
    assert carried.provider.tenant == "common"
    assert "version 1" in carried.said


def test_scopes_of_microsoft_graph_are_not_carried() -> None:
    carried = carry(office365(oauth2_scope="https://graph.microsoft.com/Mail.Send offline_access"))
    assert carried.provider.scopes is None
    assert "graph.microsoft.com" in carried.said


def test_fewer_scopes_than_the_preset_stay_fewer() -> None:
    scope = "https://outlook.office.com/IMAP.AccessAsUser.All"
    assert carry(office365(oauth2_scope=f"{scope} offline_access")).provider.scopes == (scope,)


def test_a_server_that_differs_from_the_preset_is_written() -> None:
    text = server("SMTP-2587", "smtp.gmail.com", 587, server_starttls="yes") + server(
        "IMAP-2993", "imap.gmail.com", 993
    )
    provider = carry(text + gmail()).provider
    smtp = effective_endpoint(provider, Protocol.SMTP)
    assert smtp is not None
    assert (smtp.host, smtp.port, smtp.tls) == ("smtp.gmail.com", 587, TlsMode.STARTTLS)
    assert smtp.extensions  # the server is still recognized as Google's
    assert provider.imap is None


def test_a_forgotten_starttls_is_put_right() -> None:
    assert carry(server("SMTP-1587", "smtp.office365.com", 587) + office365()).provider.smtp is None


# --- accounts -------------------------------------------------------------------------------------------------------


def test_accounts_with_the_same_needs_share_a_provider() -> None:
    text = office365("a@contoso.com") + office365("b@contoso.com") + office365("c@contoso.com", client_id="other")
    carried = carry(text + gmail())
    assert [(account.address[0], account.provider) for account in carried.config.accounts] == [
        ("a", "office365"),
        ("b", "office365"),
        ("c", "office365-2"),
        ("a", "gmail"),
    ]


def test_two_client_secrets_are_two_providers() -> None:
    carried = carry(office365("a@contoso.com") + office365("b@contoso.com", client_secret=f"{CANARY}-2"))
    assert carried.secret("a@contoso.com") == f"{CANARY}-microsoft"
    assert carried.secret("b@contoso.com") == f"{CANARY}-2"


def test_an_encrypted_secret_is_the_same_as_the_clear_one() -> None:
    carried = carry(
        office365("a@contoso.com", client_secret="", client_secret_encrypted="gAAAAAB") + office365("b@contoso.com")
    )
    assert len(carried.config.providers) == 1
    assert carried.secret("a@contoso.com") == f"{CANARY}-microsoft"
    assert not carried.imported.to_do


@pytest.mark.parametrize("home", SecretHome)
def test_a_secret_that_is_only_encrypted_must_be_given_again(home: SecretHome) -> None:
    carried = carry(office365(client_secret="", client_secret_encrypted="gAAAAAB"), home=home)
    assert carried.secret("bob@contoso.com") == FROM_THE_ADMIN
    (sentence,) = carried.imported.to_do
    assert carried.imported.kept[0].place in sentence
    assert "gAAAAAB" not in carried.yaml


@pytest.mark.parametrize(
    ("text", "section"),
    [
        (
            office365("a@contoso.com", client_secret="", client_secret_encrypted="gAAAAAB") + office365(),
            "bob@contoso.com",
        ),
        (CATCH_ALL + account("a@contoso.com", access_token=CANARY) + office365("@contoso.com"), "@contoso.com"),
        ("[DEFAULT]\nclient_secret = shared\n" + office365(client_secret=""), "DEFAULT"),
    ],
)
def test_who_must_set_a_secret_is_sent_to_the_section_that_has_it(text: str, section: str) -> None:
    (sentence,) = carry(text, home=SecretHome.ENVIRONMENT).imported.to_do
    assert f"the client_secret that [{section}] has in" in sentence


def test_the_text_of_the_sample_configuration_is_left_out() -> None:
    carried = carry(gmail() + office365(client_id="*** your client id here ***"))
    assert addresses(carried) == ["alice@gmail.com"]
    assert carry(office365(client_secret="*** your client secret here ***")).provider.client_secret is None


def test_a_catch_all_account_is_a_pattern_and_lends_its_options() -> None:
    text = CATCH_ALL + office365("@contoso.com") + account("bob@contoso.com", access_token=CANARY)
    carried = carry(text)
    assert addresses(carried) == ["*@contoso.com", "bob@contoso.com"]
    assert len(carried.config.providers) == 1


def test_the_catch_all_for_every_domain_lends_its_options_and_is_left_out() -> None:
    carried = carry(CATCH_ALL + office365("@") + account("bob@contoso.com", client_id="own"))
    assert addresses(carried) == ["bob@contoso.com"]
    assert carried.provider.client_id == "own"
    assert carried.secret("bob@contoso.com") == f"{CANARY}-microsoft"
    assert '"*@example.com"' in carried.said


def test_of_two_catch_alls_that_of_the_domain_lends_first() -> None:
    text = CATCH_ALL + office365("@") + account("@contoso.com", client_id="nearer")
    carried = carry(text + account("bob@contoso.com", access_token=CANARY))
    assert carried.provider.client_id == "nearer"
    assert carried.secret("bob@contoso.com") == f"{CANARY}-microsoft"


def test_a_catch_all_that_was_switched_off_stays_off() -> None:
    carried = carry(office365("@contoso.com") + office365())
    assert addresses(carried) == ["bob@contoso.com"]
    assert "allow_catch_all_accounts" in carried.said


def test_a_shared_mailbox_is_told_what_it_needs() -> None:
    carried = carry(office365() + office365("sales@contoso.com"))
    assert "sign_in_as:" in carried.said
    assert "sign_in_as:" not in carry(gmail()).said


def test_names_that_differ_in_case_are_one() -> None:
    carried = carry(office365("Bob@Contoso.com") + office365("bob@contoso.com", client_id="other"))
    assert addresses(carried) == ["bob@contoso.com"]
    assert carried.provider.client_id == "11111111-2222-3333-4444-555555555555"


def test_of_names_that_differ_in_case_the_one_that_works_is_carried() -> None:
    carried = carry(account("Bob@Contoso.com", access_token=CANARY) + office365("bob@contoso.com"))
    assert addresses(carried) == ["bob@contoso.com"]
    assert carried.secret("bob@contoso.com") == f"{CANARY}-microsoft"


def test_options_of_default_are_everybodys() -> None:
    carried = carry(
        "[DEFAULT]\nclient_id = shared\nlocal_address = 127.0.0.1\n" + GMAIL_SERVERS + office365(client_id="")
    )
    assert carried.provider.client_id == "shared"
    assert "not an option that the old program knew" not in carried.said
    assert "colour (in [DEFAULT]" in carry("[DEFAULT]\ncolour = red\n" + GMAIL_SERVERS + gmail()).said


# --- ports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "address", "said"),
    [
        ("127.0.0.1", "127.0.0.1:1993", ""),
        ("localhost", "localhost:1993", ""),
        ("::1", "[::1]:1993", ""),
        ("[::1]", "[::1]:1993", ""),
        ("", "localhost:1993", "all interfaces"),
        ("::", "localhost:1993", "without TLS"),
        ("0.0.0.0", "127.0.0.1:1993", "without TLS"),
        ("192.168.1.5", "127.0.0.1:1993", "without TLS"),
        ("::ffff:127.0.0.1", "127.0.0.1:1993", ""),
        ("not an address", "127.0.0.1:1993", "is not an address"),
    ],
)
def test_a_port_is_for_this_machine(written: str, address: str, said: str) -> None:
    carried = carry(server("IMAP-1993", "imap.gmail.com", 993, local_address=written) + gmail())
    assert [door.address for door in carried.config.listeners.imap] == [address]
    assert said in carried.said
    assert ("on this machine can connect" in carried.said) is bool(said)
    assert any("1993" in sentence for sentence in carried.imported.to_do) is bool(said)


def test_a_port_with_tls_keeps_it(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.write_pair(tmp_path)
    pair = {"local_certificate_path": str(certificate), "local_key_path": key.name, "local_address": "::"}
    text = server("IMAP-1993", "imap.gmail.com", 993, **pair)
    text += server("SMTP-1587", "smtp.gmail.com", 587, local_starttls="True", **pair)
    listeners = carry(text + gmail(), directory=tmp_path).config.listeners
    assert [(door.address, door.tls, door.key, door.exposed) for door in listeners.imap + listeners.smtp] == [
        ("0.0.0.0:1993", TlsMode.IMPLICIT, str(key), True),
        ("0.0.0.0:1587", TlsMode.STARTTLS, str(key), True),
    ]


def test_all_ports_of_a_protocol_are_kept() -> None:
    listeners = carry(GMAIL_SERVERS + OFFICE365_SERVERS + gmail()).config.listeners
    assert [door.port for door in listeners.imap] == [2993, 1993]
    assert [door.port for door in listeners.smtp] == [2465, 1587]


def test_a_port_is_not_taken_twice_and_a_name_in_lower_case_has_no_effect() -> None:
    text = GMAIL_SERVERS + server("POP-2993", "pop.gmail.com", 995) + server("imap-4993", "imap.gmail.com", 993)
    carried = carry(text + gmail())
    assert [door.port for door in carried.config.listeners.imap] == [2993]
    assert "its port is that of [IMAP-2993]" in carried.said
    assert "[imap-4993]" in carried.said


# --- where the browser comes back to --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "uri", "console", "to_do"),
    [
        (office365(redirect_uri="http://localhost:8080/"), "http://localhost:8080/", 8080, False),
        (office365(redirect_uri="http://localhost:8080"), "http://localhost:8080", 8080, False),
        (office365(redirect_uri="http://localhost"), "http://localhost:3017", 3017, False),
        (office365(redirect_uri="http://localhost/"), "http://localhost:3017/", 3017, False),
        (office365(redirect_uri=""), "http://localhost:3017/", 3017, False),
        (gmail(redirect_uri="http://127.0.0.1:8080/"), "http://localhost:3017/", 3017, False),
        (office365(redirect_uri="http://127.0.0.1:8080/"), "http://localhost:3017/", 3017, True),
        (office365(redirect_uri="http://localhost:8080/back"), "http://localhost:3017/", 3017, True),
        (office365(redirect_uri="https://localhost:8080/"), "http://localhost:3017/", 3017, True),
        (office365(redirect_uri="https://mail.contoso.com/cb"), "https://mail.contoso.com/cb", 3017, True),
        (office365(redirect_uri="urn:ietf:wg:oauth:2.0:oob"), "http://localhost:3017/", 3017, True),
        (office365(redirect_uri="http://[nonsense"), "http://localhost:3017/", 3017, True),
        (
            office365(redirect_uri=MICROSOFT.format(tenant="common", leaf="").replace("v2.0/", "nativeclient")),
            "http://localhost:3017/",
            3017,
            True,
        ),
        (yahoo(redirect_uri="http://localhost/"), "http://localhost:3017/", 3017, True),
    ],
)
def test_the_redirect_uri_stays_registered_or_somebody_is_told(text: str, uri: str, console: int, to_do: bool) -> None:
    carried = carry(text)
    assert carried.provider.redirect_uri == uri
    assert carried.config.console.port == console
    assert bool(carried.imported.to_do) is to_do


def test_a_password_in_a_redirect_uri_is_not_repeated() -> None:
    carried = carry(office365(redirect_uri=f"https://user:{CANARY}@mail.contoso.com/"))
    assert CANARY not in carried.yaml
    assert "https://mail.contoso.com/" in carried.said


def test_of_several_redirect_ports_the_one_that_must_be_exact_wins() -> None:
    text = "".join(office365(f"{n}@contoso.com", redirect_uri="http://localhost:9000/") for n in range(5))
    carried = carry(text + yahoo())
    assert carried.config.console.port == 8080
    assert carried.config.providers["office365"].redirect_uri == "http://localhost:8080/"
    assert not carried.imported.to_do


@pytest.mark.parametrize("one", [office365, gmail, yahoo])
def test_accounts_that_differ_in_the_port_of_localhost_alone_share_a_provider(one: Callable[..., str]) -> None:
    """The other program's own sample configuration advises a separate port for each account."""
    text = "".join(one(f"{n}@example.com", redirect_uri=f"http://localhost:{8080 + n}/") for n in range(5))
    carried = carry(text)
    assert carried.provider.redirect_uri == "http://localhost:8080/"
    assert len(carried.imported.kept) == 1
    assert not carried.imported.to_do
    assert "redirect_uri was" not in carried.said


@pytest.mark.parametrize("other", ["https://mail.example.com/", "http://localhost:8080"])
def test_accounts_that_differ_in_more_of_the_redirect_uri_than_the_port_do_not(other: str) -> None:
    """The slash at the end matters, because the URI must match the registered one exactly."""
    text = office365("a@contoso.com", redirect_uri="http://localhost:8080/")
    carried = carry(text + office365("b@contoso.com", redirect_uri=other))
    found = [provider.redirect_uri for provider in carried.config.providers.values()]
    assert found == ["http://localhost:8080/", other]


def test_the_ports_of_accounts_whose_secret_was_found_elsewhere_count_too() -> None:
    hidden = {"client_secret": "", "client_secret_encrypted": "gAAAAAB"}
    text = yahoo("a@yahoo.com", redirect_uri="http://localhost:8080/") + gmail(redirect_uri="http://localhost:8081/")
    text += "".join(yahoo(f"{n}@yahoo.com", redirect_uri="http://localhost:8081/", **hidden) for n in range(2))
    carried = carry(text)
    assert {provider.redirect_uri for provider in carried.config.providers.values()} == {"http://localhost:8081/"}
    assert not carried.imported.to_do


def test_a_provider_of_several_redirect_ports_has_nothing_to_register_where_the_console_is_at_one_of_them() -> None:
    text = yahoo("a@yahoo.com", redirect_uri="http://localhost:8080/") + gmail(redirect_uri="http://localhost:8081/")
    text += "".join(yahoo(f"{n}@yahoo.com", redirect_uri="http://localhost:8081/") for n in range(2))
    carried = carry(text)
    assert {provider.redirect_uri for provider in carried.config.providers.values()} == {"http://localhost:8081/"}
    assert not carried.imported.to_do


def test_the_console_gives_way_to_a_mail_port() -> None:
    text = server("IMAP-3017", "imap.gmail.com", 993) + server("SMTP-8080", "smtp.gmail.com", 465)
    carried = carry(text + gmail(redirect_uri="http://localhost:8080"))
    assert carried.config.console.port == 3018
    assert carried.provider.redirect_uri == "http://localhost:3018"


# --- what is not carried --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GMAIL_SERVERS, "there is no account"),
        (gmail(token_url=""), "token_url or client_id is missing"),
        (gmail(client_secret="*** your client secret here ***", client_id="*** your id"), "sample configuration"),
        (office365(permission_url=""), "no permission_url, and no oauth2_flow"),
        (office365("no address@"), "not the address of a mailbox"),
        (office365("OFFICE\\alice@x"), "not the address of a mailbox"),
        (company(permission_url="", oauth2_flow="password"), "sent the password"),
        (company(token_url="http://login.example.org/token") + GMAIL_SERVERS, "token_url: must begin with https"),
        (company(oauth2_scope=""), "oauth2_scope is missing"),
        (app_only(client_secret=""), "a client secret or a certificate"),
        (app_only(tenant="common"), "needs the tenant's own GUID"),
        (gmail(permission_url="", oauth2_flow="client_credentials"), "service_account"),
        (service_account(client_id="file", client_secret=""), "service account key is missing"),
        (service_account(client_secret=f"{CANARY}, no JSON"), "not the JSON key"),
        (office365(token_url=MICROSOFT.format(tenant="other.com", leaf="token")), "two different tenants"),
        (office365(token_url=f"https://{MICROSOFT_AUTHORITY_HOST}/kerberos"), "not of a form"),
    ],
)
def test_where_nothing_can_be_carried_the_reason_is_the_error(text: str, words: str) -> None:
    said = refusal(text)
    assert words in said
    assert said.startswith("emailproxy.config:")


def test_more_accounts_than_one_file_takes() -> None:
    many = "".join(office365(f"{'x' * 60}{n}@{'y' * 60}.example.com") for n in range(6000))
    assert '"*@example.com"' in refusal(many)


def test_switches_that_are_not_needed_are_explained() -> None:
    carried = carry("[emailproxy]\ndelete_account_token_on_password_error = False\nloglevel = 3\n" + gmail())
    assert "a wrong password never makes anybody sign in again" in carried.said
    assert "loglevel (in [emailproxy]" in carried.said


def test_plugins_are_known_and_what_the_commonest_did_is_the_mail_programs_to_do() -> None:
    """Plugins exist in the other program's branch `plugins`."""
    carried = carry(GMAIL_SERVERS.replace("server_port", "plugins = {'Echo': {}}\nserver_port", 1) + gmail())
    assert "plugins (in [" in carried.said
    assert "save a copy in Sent" in carried.said
    assert "not an option that the old program knew" not in carried.said


def test_the_login_password_as_client_secret_must_be_replaced() -> None:
    switch = "[emailproxy]\nuse_login_password_as_client_credentials_secret = True\n"
    carried = carry(switch + app_only(client_secret=""))
    assert carried.secret("bob@contoso.com") == FROM_THE_ADMIN
    assert "password with which mail programs logged in" in carried.imported.to_do[0]


def test_no_secret_is_repeated() -> None:
    text = (
        GMAIL_SERVERS + gmail() + TOKENS + office365("x@contoso.com") + TOKENS + service_account(client_secret=CANARY)
    )
    for home in SecretHome:
        carried = carry(text + app_only("y@contoso.com", client_secret="", client_secret_encrypted=CANARY), home=home)
        assert CANARY not in carried.yaml
        assert CANARY not in repr(carried.imported)
        assert "refresh_token" not in carried.yaml


def test_five_hundred_accounts_are_carried_over() -> None:
    text = OFFICE365_SERVERS + CATCH_ALL + office365("@contoso.com")
    token = "x" * 5000
    text += "".join(
        account(f"person{n}@contoso.com", access_token=token) + office365(f"{n}@b.com", client_id=f"app-{n}")
        for n in range(250)
    )
    carried = carry(text)
    assert len(carried.config.accounts) == 501
    assert len(carried.config.providers) == 251
