"""The console speaks the reader's language, or the configured one."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.control.contract import AccountState, Leftover, ProtocolCheck, SignOut
from bridge.errors import (
    AuthorizationFailed,
    BridgeError,
    ProviderRefused,
    SignInUnsaved,
    StoreUnavailable,
    UpstreamRefused,
)
from tests.fakes_control import FakeControl, state_of
from tests.ui.web.conftest import Browser, serving

ALICE = "alice@example.com"
FRENCH = {"Accept-Language": "fr-FR,fr;q=0.9,en;q=0.5"}
NO_BREAK = "\u00a0"
SMTP_OFF = Diagnosis.of("mail.smtp_off_mailbox", "535 5.7.139 <no>", mailbox=ALICE)


async def result(
    browser: Browser, control: FakeControl, problem: BridgeError | None = None, headers: dict[str, str] = FRENCH
) -> str:
    """The page with the result of a sign-in."""
    state = state_of((await control.begin_authorization(ALICE)).url)
    control.problem = problem
    async with browser.get(f"/?code=CANARY-c&state={state}", headers=headers) as response:
        return await response.text()


async def test_a_good_sign_in_is_told_in_french(browser: Browser, control: FakeControl) -> None:
    control.checks[ALICE] = (ProtocolCheck("imap", True), ProtocolCheck("smtp", True))
    text = await result(browser, control)
    assert '<html lang="fr">' in text
    assert "<title>Vous êtes connecté · mail-bridge</title>" in text
    assert f"<strong>{ALICE}</strong> est connecté. Vous pouvez fermer cette page." in text
    assert f"Essayés à l’instant{NO_BREAK}: IMAP, SMTP." in text
    assert "signed in" not in text


async def test_what_the_mail_servers_said_tells_in_french_who_must_act(browser: Browser, control: FakeControl) -> None:
    failed = ProtocolCheck("smtp", False, Turn.TENANT_ADMIN, SMTP_OFF.told(), SMTP_OFF)
    control.checks[ALICE] = (ProtocolCheck("imap", True), failed)
    text = await result(browser, control)
    assert f"<strong>IMAP</strong>{NO_BREAK}: fonctionne" in text
    assert f"<strong>SMTP</strong>{NO_BREAK}: L’envoi SMTP authentifié est désactivé" in text
    assert f"Set-CASMailbox {ALICE} -SmtpClientAuthenticationDisabled $false" in text
    assert "(535 5.7.139 &lt;no&gt;)" in text
    assert "<em>Veuillez transmettre ce message à l’administrateur de la messagerie de votre organisation.</em>" in text


async def test_a_command_in_what_a_mail_server_said_is_shown_as_code(browser: Browser, control: FakeControl) -> None:
    gone = Diagnosis.of("mail.unreachable", "<gone>")
    control.checks[ALICE] = (ProtocolCheck("imap", False, Turn.NOBODY, gone.told(), gone),)
    text = await result(browser, control, headers={})
    assert "the reason with <code>mail-bridge check --online</code>. (&lt;gone&gt;)" in text


@pytest.mark.parametrize(
    ("problem", "title", "words"),
    [
        (
            ProviderRefused("x", diagnosis=Diagnosis("microsoft.secret_expired", words="AADSTS7000222: <b>")),
            "L’administrateur doit intervenir",
            "Le secret client a expiré",
        ),
        (
            AuthorizationFailed("x", code="provider", diagnosis=Diagnosis("microsoft.admin_consent")),
            "La connexion a échoué",
            "Un administrateur Entra doit accorder",
        ),
        (
            AuthorizationFailed(
                "x", code="wrong_person", diagnosis=Diagnosis.of("sign_in.wrong_person", person=ALICE, somebody="b@c.d")
            ),
            "Une autre personne s’est connectée",
            f"b@c.d s’est connecté, alors que c’était à {ALICE} de le faire.",
        ),
        (UpstreamRefused("x", diagnosis=SMTP_OFF), "Le serveur de messagerie refuse ce compte", "Set-CASMailbox"),
        (
            SignInUnsaved("the disk is full"),
            "Vous êtes connecté, mais la connexion n’est pas encore enregistrée",
            "Personne n’a à se reconnecter",
        ),
        (StoreUnavailable("the disk is full"), "La connexion n’a pas pu être enregistrée", "the disk is full"),
        (
            StoreUnavailable("full"),
            "La connexion n’a pas pu être enregistrée",
            "Le stockage des jetons est inaccessible",
        ),
    ],
)
async def test_a_failed_sign_in_is_told_in_french(
    browser: Browser, control: FakeControl, problem: BridgeError, title: str, words: str
) -> None:
    text = await result(browser, control, problem)
    assert f"<title>{title} · mail-bridge</title>" in text
    assert words in text
    assert "<b>" not in text


async def test_trouble_of_the_bridge_is_told_to_the_public_in_french_without_its_words(
    browser: Browser, control: FakeControl
) -> None:
    control.problem = StoreUnavailable("/secret/place is locked")
    async with browser.get("/", headers=FRENCH) as response:
        assert response.status == 503
        text = await response.text()
    assert "mail-bridge ne peut pas ouvrir son stockage de jetons pour le moment." in text
    assert "secret" not in text


async def test_a_form_that_is_not_accepted_is_told_in_french(browser: Browser) -> None:
    await browser.as_administrator()
    async with browser.post("/check", data={"form": "0" * 64}, headers=FRENCH) as response:
        assert response.status == 403
        assert "Rien ne s’est encore passé" in await response.text()


async def test_the_administrator_is_warned_in_french(browser: Browser, control: FakeControl) -> None:
    control.warnings = (Diagnosis.of("secret.ends", provider="office365", days="3", day="2027-01-31"),)
    await browser.as_administrator()
    async with browser.get("/", headers=FRENCH) as response:
        assert "Le secret client du fournisseur office365 expire dans 3 jours, le 2027-01-31" in await response.text()


async def test_every_kind_of_failure_says_whom_to_forward_it_to(browser: Browser, control: FakeControl) -> None:
    problem = AuthorizationFailed(
        "x", code="provider", diagnosis=Diagnosis("microsoft.admin_consent", words="AADSTS90094")
    )
    text = await result(browser, control, problem, {})
    assert "An Entra administrator must grant consent to this app for the organization. (AADSTS90094)" in text
    assert "Please forward this to your organization&#39;s mail administrator." in text


async def test_two_readers_at_once_are_each_spoken_to_in_their_language(browser: Browser) -> None:
    async def title(language: str) -> str:
        async with browser.get(f"/sign-in/{ALICE}", headers={"Accept-Language": language}) as response:
            return (await response.text()).partition("<title>")[2].partition("<")[0]

    asked = ["fr", "en", "fr", "de"] * 5
    assert await asyncio.gather(*map(title, asked)) == [
        "Se connecter · mail-bridge" if language == "fr" else "Sign in · mail-bridge" for language in asked
    ]


@pytest.mark.parametrize(("configured", "title"), [("en", "Sign in"), ("fr", "Se connecter"), ("auto", "Se connecter")])
async def test_the_configured_language_wins(control: FakeControl, configured: str, title: str) -> None:
    async with (
        serving(control, language=configured) as browser,
        browser.get(f"/sign-in/{ALICE}", headers=FRENCH) as response,
    ):
        assert f"<title>{title} · mail-bridge</title>" in await response.text()


async def test_the_list_tells_an_accounts_problem_in_french(browser: Browser, control: FakeControl) -> None:
    control.states[ALICE] = AccountState.TROUBLE
    control.details[ALICE] = "english"
    control.diagnoses[ALICE] = Diagnosis("microsoft.temporary")
    await browser.as_administrator()
    async with browser.get("/", headers=FRENCH) as response:
        text = await response.text()
    assert (
        '<span class="detail trouble" lang="fr">Microsoft rencontre un problème. Personne n’a rien à faire.</span>'
        in text
    )


ENGLISH = {"the", "this", "and", "sign", "to", "of", "is", "was", "you", "again", "with"}


async def press(browser: Browser, *more: str) -> str:
    data = {"form": await browser.form(f"/sign-in/{ALICE}"), **dict.fromkeys(more, "1")}
    async with browser.post(f"/sign-in/{ALICE}", data=data, headers=FRENCH | {"Origin": "null"}) as response:
        return await response.text()


async def administration(browser: Browser, control: FakeControl, name: str) -> str:
    failed = ProtocolCheck("smtp", False, Turn.TENANT_ADMIN, SMTP_OFF.told(), replace(SMTP_OFF, words=""))
    control.checks[ALICE] = (ProtocolCheck("imap", True), failed)
    control.states |= {ALICE: AccountState.TROUBLE, "zoe@example.com": AccountState.READY}
    control.details[ALICE], control.diagnoses[ALICE] = SMTP_OFF.told(), replace(SMTP_OFF, words="")
    control.leftovers = (Leftover("lea@example.com", True, True),)
    await browser.as_administrator()
    account = f"/accounts/{ALICE}"
    paths = {"list": "/", "account": account, "forget": f"{account}/forget", "check": "/check"}
    return (paths | {"remove": "/accounts/lea@example.com/forget"})[name]


async def page_of(browser: Browser, control: FakeControl, name: str) -> str:
    match name:
        case "done":
            control.checks[ALICE] = (ProtocolCheck("imap", True),)
            return await result(browser, control)
        case "failed":
            failed = ProtocolCheck("smtp", False, Turn.TENANT_ADMIN, SMTP_OFF.told(), replace(SMTP_OFF, words=""))
            control.checks[ALICE] = (failed,)
            return await result(browser, control)
        case "leaving":
            return await press(browser)
        case "elsewhere":
            return await press(browser, "elsewhere")
        case "device":
            control.user_code = "ABCD"
            return await press(browser)
        case "start":
            path = "/"
        case "forgotten":
            path = await administration(browser, control, "forget")
            reason = said("the provider {provider} does not let programs end a sign-in", provider="office365")
            control.sign_out = SignOut((Diagnosis.of("sign_out.unrevoked", reason),))
            return (await browser.press(path, FRENCH | {"Origin": "null"}))[1]
        case "list" | "account" | "forget" | "remove" | "check":
            path = await administration(browser, control, name)
        case "sign_in":
            path = f"/sign-in/{ALICE}"
        case _:
            path = "/nowhere"
    async with browser.get(path, headers=FRENCH) as response:
        return await response.text()


SIGN_IN_PAGES = ["done", "failed", "problem", "sign_in", "leaving", "device", "elsewhere"]
BLOCKS = re.compile(r"</?(?:p|h1|h2|li|section|div|button|a|t[hdr]|dt|dd)\b[^>]*>")


@pytest.mark.parametrize("name", [*SIGN_IN_PAGES, "start", "list", "account", "forget", "remove", "forgotten", "check"])
async def test_a_page_has_no_english_left(browser: Browser, control: FakeControl, name: str) -> None:
    text = await page_of(browser, control, name)
    assert '<html lang="fr">' in text
    visible = BLOCKS.sub(" ", text.partition("<body>")[2])
    visible = re.sub(r"<[^>]*>", "", visible)
    visible = re.sub(r"\bstate=[\w-]{43}", "", visible)  # random: now and then it begins with "of5"
    assert not re.search(r"\w[.:][A-ZÀÉ]", visible), visible
    assert not set(re.findall(r"[a-z]+", visible.lower())) & ENGLISH, visible
