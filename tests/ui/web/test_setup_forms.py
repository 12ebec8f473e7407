"""Which of the set-up's forms are accepted: those from a browser with the link, for the answers that it was shown."""

from __future__ import annotations

import re

import aiohttp
import pytest

from bridge.errors import StoreUnavailable
from tests.ui.web.conftest import TOKEN
from tests.ui.web.test_setup import CANARY, GUID, PORTS, Site
from tests.ui.web.test_setup import site as site  # the fixture

FORMS = ("/setup/provider", "/setup/provider/gmail", "/setup/provider/gmail/remove", "/setup/write", "/setup/start")


async def upload(site: Site, form: str, **headers: str) -> tuple[int, str]:
    """Send mailboxes in a form with a file. Returns: status and text of the answer."""
    data = aiohttp.FormData({"form": form, "accounts": "mallory@example.com", **PORTS})
    data.add_field("csv", b"", filename="")
    async with site.browser.post("/setup/accounts", data=data, headers={"Origin": "null", **headers}) as answer:
        return answer.status, await answer.text()


async def test_a_form_from_when_the_link_was_open_is_not_taken_any_more(site: Site) -> None:
    """The form's field and cookie are valid until the set-up ends; the administrator's session may end before."""
    before = await site.answer_all()
    form = await site.browser.form("/setup/accounts")
    seen = re.search(r'name="seen" value="([0-9a-f]+)"', before)
    assert seen is not None
    site.browser.session.cookie_jar.clear(lambda cookie: "admin" in cookie.key)
    data = {"form": form, "seen": seen[1], "choice": "MICROSOFT", "client_id": "changed"}
    for path in FORMS:
        async with site.browser.post(path, data=data, headers={"Origin": "null"}) as answer:
            assert answer.status == 403
            assert "Not set up yet" in await answer.text()
    status, text = await upload(site, form)
    assert status == 403
    assert "Not set up yet" in text
    async with site.browser.get(f"/admin/{TOKEN}"):
        pass
    assert await site.browser.text("/setup/summary") == before
    assert site.machine.started == 0


@pytest.mark.parametrize(("form", "headers"), [("0" * 64, {}), ("", {}), (None, {"Origin": "http://evil.example"})])
async def test_a_list_of_mailboxes_of_another_site_is_not_taken(
    site: Site, form: str | None, headers: dict[str, str]
) -> None:
    await site.answer_all()
    status, text = await upload(site, await site.browser.form("/setup/accounts") if form is None else form, **headers)
    assert status == 403
    assert "Nothing has happened yet" in text
    assert [account.address for account in site.machine.draft.accounts] == ["alice@example.com"]


async def test_only_what_was_shown_is_written(site: Site) -> None:
    summary = await site.answer_all()
    seen = re.search(r'name="seen" value="([0-9a-f]+)"', summary)
    assert seen is not None
    assert (await upload(site, await site.browser.form("/setup/accounts")))[0] == 200
    status, _, text = await site.send("/setup/write", "/setup/summary", seen=seen[1])
    assert status == 409
    assert "The answers have been changed in another window." in text
    assert not site.machine.output.exists()


async def test_a_secret_that_finds_no_place_is_asked_for_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def locked(scheme: str, name: str) -> str:
        raise StoreUnavailable("the keyring is locked")

    await site.answer_all()
    await site.send("/setup/provider", choice="MICROSOFT")
    monkeypatch.setattr(site.machine, "place", locked)
    answers = {"client_id": GUID, "tenant": GUID, "client_secret": CANARY}
    status, _, text = await site.send("/setup/provider/office365", **answers)
    assert status == 422
    assert "the keyring is locked" in text
    async with site.browser.get("/setup/summary") as answer:
        assert answer.url.path == "/setup/provider/office365"
