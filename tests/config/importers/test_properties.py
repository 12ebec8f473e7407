"""Whatever a configuration of email-oauth2-proxy contains: our loader accepts the imported file; no secret is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.config.importers.emailproxy import import_emailproxy
from bridge.config.importers.ini import decoded, read_ini
from bridge.config.importers.providers import SecretHome
from bridge.errors import ConfigError
from tests.config.importers.carried import carry, write_service_account
from tests.config.importers.examples import (
    CANARY,
    MICROSOFT,
    MICROSOFT_SCOPE,
    SERVICE_ACCOUNT,
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

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20).map(str.strip)
"""One line of any characters: spaces, quotes, `${`, emoji."""

SECRETS = WORDS.filter(str.isprintable).map(lambda text: f"{CANARY}{text}")
"""Only printable ones: a secret with invisible characters works nowhere, and our loader rejects it."""
REDIRECTS = st.sampled_from(
    [
        "",
        "http://localhost",
        "http://localhost/",
        "http://localhost:8080",
        "http://localhost:8080/",
        "http://localhost:1993/",
        "http://localhost:99999",
        "http://127.0.0.1:8080/",
        "https://localhost/",
        "https://mail.example.com/${cb}",
        f"https://user:{CANARY}@mail.example.com/",
        "http://mail.example.com/",
        "urn:ietf:wg:oauth:2.0:oob",
        "https://login.microsoftonline.com/common/oauth2/nativeclient",
    ]
)
SCOPES = st.sampled_from(
    [
        "",
        MICROSOFT_SCOPE,
        "https://mail.google.com/",
        "mail-w",
        "a ${b} c",
        "https://outlook.office.com/.default openid",
    ]
)
URLS = st.sampled_from(
    [
        "",
        MICROSOFT.format(tenant="common", leaf="authorize"),
        MICROSOFT.format(tenant="*** your tenant id here ***", leaf="token"),
        MICROSOFT.format(tenant="contoso.com", leaf="devicecode"),
        "https://login.windows.net/contoso.com/oauth2/token",
        "https://login.microsoftonline.us/contoso.us/oauth2/v2.0/token",
        "https://login.live.com/oauth20_token.srf",
        "https://login.live.com/oauth20_authorize.srf",
        "https://oauth.yandex.ru/token",
        "https://oauth2.googleapis.com/token",
        "https://login.example.org/token?tenant=${x}",
        "http://login.example.org/token",
        "https://[nonsense",
        "//",
    ]
)
FLOWS = st.sampled_from(["", "authorization_code", "device", "client_credentials", "password", "service_account", "?"])
PORTS = st.sampled_from(["0", "1", "143", "1993", "01993", "3017", "3018", "8080", "65535", "65536", "9" * 30])
HOSTS = st.sampled_from(
    [
        "imap.gmail.com",
        "smtp.gmail.com",
        "outlook.office365.com",
        "smtp-mail.outlook.com",
        "partner.outlook.cn",
        "imap.mail.yahoo.com",
        "smtp.example.org",
        "imap.elsewhere.co.uk",
        "192.0.2.7",
        "not a host",
        "",
    ]
)
NAMES = st.one_of(
    st.builds("{}@{}".format, WORDS, st.sampled_from(["example.org", "Contoso.com", "contoso.com", "x", "-", ""])),
    st.integers(0, 9).map("person{}@example.org".format),
    st.sampled_from(["@", "@contoso.com", "@example.org", "KNOWN@contoso.com", "Person1@Example.org"]),
).filter(lambda name: "]" not in name and not name.isspace())


@st.composite
def servers(draw: st.DrawFn) -> str:
    section = f"{draw(st.sampled_from(['IMAP', 'POP', 'SMTP', 'imap']))}-{draw(PORTS)}"
    locals_ = ["127.0.0.1", "::1", "::", "0.0.0.0", "localhost", "192.0.2.1", "mail.example.org", "", "*"]
    has_pair = draw(st.booleans())
    return server(
        section,
        draw(HOSTS),
        draw(st.sampled_from([0, 25, 143, 465, 587, 993, 995])),
        local_address=draw(st.sampled_from(locals_)),
        server_starttls=draw(st.sampled_from(["", "True", "no", "maybe"])),
        local_starttls=draw(st.sampled_from(["", "True"])),
        local_certificate_path="server.pem" if has_pair else "",
        local_key_path="server.key" if has_pair or draw(st.booleans()) else "",
    )


@st.composite
def odd_accounts(draw: st.DrawFn) -> str:
    """An account with any combination of options."""
    options = {
        "permission_url": draw(URLS),
        "token_url": draw(URLS),
        "oauth2_scope": draw(SCOPES),
        "oauth2_flow": draw(FLOWS),
        "oauth2_resource": draw(st.sampled_from(["", "https://partner.outlook.cn"])),
        "redirect_uri": draw(REDIRECTS),
        # Not "file": the secret would then be the path of a key file, which our loader wants to find (robot@example.org
        # has such a file).
        "client_id": draw(st.one_of(st.sampled_from(["", "id", "id-2", "*** your client id ***"]), WORDS)),
        "client_secret": draw(st.one_of(st.just(""), st.just(f"{CANARY}-one"), SECRETS)),
        "client_secret_encrypted": draw(st.sampled_from(["", CANARY])),
        "jwt_certificate_path": draw(st.sampled_from(["", "server.pem"])),
        "jwt_key_path": draw(st.sampled_from(["", "server.key"])),
        "refresh_token": CANARY,
        "an_option": CANARY,
    }
    return account(draw(NAMES), **options)


@st.composite
def usual_accounts(draw: st.DrawFn) -> str:
    """An account that works in email-oauth2-proxy, with some of its options changed."""
    make = draw(st.sampled_from([gmail, office365, app_only, yahoo, fastmail, company]))
    changed = {"redirect_uri": draw(REDIRECTS), "oauth2_scope": draw(SCOPES), "client_secret": draw(SECRETS)}
    kept = draw(st.sets(st.sampled_from(sorted(changed))))
    return str(make(draw(NAMES), **{key: value for key, value in changed.items() if key in kept}))


@st.composite
def files(draw: st.DrawFn) -> str:
    switch = draw(st.sampled_from(["True", "False"]))
    shared = draw(st.sampled_from(["", "[DEFAULT]\nredirect_uri = http://localhost:8080\n"]))
    parts = draw(st.lists(st.one_of(servers(), odd_accounts(), usual_accounts()), max_size=12))
    known = [
        office365("known@contoso.com"),
        service_account("robot@example.org", client_id="file", client_secret="robot.json"),
        service_account("inline@example.org", client_secret=SERVICE_ACCOUNT),
        f"[emailproxy]\nallow_catch_all_accounts = {switch}\n",
    ]
    by_header = {part.partition("\n")[0]: part for part in [*parts, *known]}
    return shared + "".join(by_header.values())


@pytest.fixture(scope="module")
def directory(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the configurations name."""
    path = tmp_path_factory.mktemp("old")
    authority.write_pair(path)
    write_service_account(path)
    return path


@given(text=files(), home=st.sampled_from(SecretHome))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_our_loader_takes_every_result(directory: Path, text: str, home: SecretHome) -> None:
    carried = carry(text, directory=directory, home=home)
    names = {account.address for account in carried.config.accounts}
    assert {"known@contoso.com", "robot@example.org", "inline@example.org"} <= names
    assert CANARY not in carried.yaml
    assert not any(CANARY in sentence for sentence in carried.imported.to_do)
    assert carried.imported.accounts == len(carried.config.accounts)
    assert carried.imported.providers == len(carried.config.providers)


@given(text=st.text())
def test_any_text_is_refused_in_one_way_only(text: str) -> None:
    with pytest.raises(ConfigError):
        import_emailproxy(text, source="x", directory=Path("/old"), home=SecretHome.FILES)


@given(content=st.binary())
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        read_ini(decoded(content, "x"), "x")
    except ConfigError as problem:
        assert str(problem).startswith("x:")
