"""/setup, while there is no configuration: provider, ids, mailboxes, summary, test, write; for holders of the link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from bridge.control.contract import Finding
from bridge.errors import BridgeError, ConfigError
from bridge.ui.i18n import say, tell_problem
from bridge.ui.setup.answers import Choice, SecretNeed
from bridge.ui.setup.document import at_console
from bridge.ui.setup.draft import Draft, Section, digest, fields_of, is_optional
from bridge.ui.setup.installer import AlreadyConfigured, Installer
from bridge.ui.setup.roster import LARGEST
from bridge.ui.setup.words import choice_label, field_hint, field_label, guide, preparation
from bridge.ui.web import guards
from bridge.ui.web.examination import findings_of
from bridge.ui.web.rendering import admitted, form_page, not_found, page, see_other
from bridge.ui.web.uploads import Upload, read_upload

PREVIEW = 8_000
"""Characters of the configuration that the summary shows; the rest would be more of the same mailboxes."""

Texts = Mapping[str, str]
"""By field: the text that was typed, or what is wrong with it."""
_Taker = Callable[[web.Request, Texts], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    label: str
    hint: str
    value: str
    problem: str
    is_optional: bool
    follows_secret: bool


@dataclass(frozen=True, slots=True)
class _Refused:
    """What is wrong with the mailboxes that were sent, as lines of the page."""

    typed: Sequence[str] = ()
    in_file: Sequence[str] = ()
    ports: Texts = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.typed or self.in_file or self.ports)


_NOTHING = _Refused()


class SetupPages:
    """The steps. Anybody who has not opened the administrator's link is told where to find it, and nothing else."""

    def __init__(self, installer: Installer, administrators: guards.Administrators, forms: guards.Forms) -> None:
        self._installer = installer
        self._administrators = administrators
        self._forms = forms
        self._busy = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        get, post = self._open, self._sent
        return [
            web.get("/", get(self._next), allow_head=False),
            web.get("/admin/{token}", self.enter, allow_head=False),
            web.get("/setup", get(self._next), allow_head=False),
            web.get("/setup/provider", get(self._ask_provider), allow_head=False),
            web.post("/setup/provider", post(self._choose_provider)),
            web.get("/setup/provider/{name}", get(self._ask_settings), allow_head=False),
            web.post("/setup/provider/{name}", post(self._take_settings)),
            web.post("/setup/provider/{name}/remove", post(self._remove_provider)),
            web.get("/setup/accounts", get(self._ask_accounts), allow_head=False),
            web.post("/setup/accounts", self._take_accounts),
            web.get("/setup/summary", get(self._show_summary), allow_head=False),
            web.post("/setup/test", post(self._test)),
            web.post("/setup/write", post(self._write)),
            web.post("/setup/start", post(self._start)),
            web.get("/setup/{step:.*}", get(self._next), allow_head=False),  # a button's address, without its form
            web.get("/{path:.*}", get(self._nowhere), allow_head=False),
        ]

    # --- who may ------------------------------------------------------------------------------------------------

    async def enter(self, request: web.Request) -> web.StreamResponse:
        """The administrator's link: from now on this browser is admitted."""
        return admitted(request, self._administrators, "/setup")

    def _open(self, handler: guards.Handler) -> guards.Handler:
        async def opened(request: web.Request) -> web.StreamResponse:
            return await handler(request) if self._administrators.is_open(request) else _stranger()

        return opened

    def _sent(self, handler: _Taker) -> guards.Handler:
        """Wraps a handler of one of our forms; it gets the form's fields."""

        async def sent(request: web.Request) -> web.StreamResponse:
            if not self._administrators.is_open(request):
                return _stranger()
            fields = await self._forms.sent(request)
            if fields is None:
                return page("setup_again.html", 403)
            return await handler(request, fields)

        return sent

    async def _nowhere(self, request: web.Request) -> web.StreamResponse:
        return not_found()

    async def _next(self, request: web.Request) -> web.StreamResponse:
        return see_other(self._step())

    def _step(self) -> str:
        """The path of the next step that has something to answer."""
        draft = self._installer.draft
        if not draft.sections:
            return "/setup/provider"
        if draft.unanswered:
            return f"/setup/provider/{draft.unanswered}"
        return "/setup/summary" if draft.has_mailboxes else "/setup/accounts"

    # --- 1: provider --------------------------------------------------------------------------------------------

    async def _ask_provider(self, request: web.Request) -> web.StreamResponse:
        return self._provider_page(request)

    async def _choose_provider(self, request: web.Request, fields: Texts) -> web.StreamResponse:
        chosen = fields.get("choice", "")
        if chosen not in Choice.__members__:
            return self._provider_page(request, 422, say("Please choose one."))
        name = self._installer.draft.choose(Choice[chosen])
        return see_other(f"/setup/provider/{name}")

    async def _remove_provider(self, request: web.Request, fields: Texts) -> web.StreamResponse:
        self._installer.draft.remove(request.match_info["name"])
        return see_other("/setup/provider")

    def _provider_page(self, request: web.Request, status: int = 200, problem: str = "") -> web.Response:
        draft = self._installer.draft
        return form_page(
            self._forms,
            request,
            "setup_provider.html",
            status,
            choices=[(choice.name, choice_label(choice)) for choice in Choice],
            chosen=[(name, choice_label(section.choice)) for name, section in draft.sections.items()],
            file=str(self._installer.output),
            problem=problem,
        )

    # --- 2: ids, secret, URLs -----------------------------------------------------------------------------------

    async def _ask_settings(self, request: web.Request) -> web.StreamResponse:
        section = self._section(request)
        return see_other("/setup") if section is None else self._settings_page(request, section)

    async def _take_settings(self, request: web.Request, fields: Texts) -> web.StreamResponse:
        section = self._section(request)
        if section is None:  # removed, or forgotten, since the page was opened
            return see_other("/setup")
        draft = self._installer.draft
        section.mean(fields.get("choice", ""))
        refused = section.offer_secret(fields.get("client_secret", "").strip())
        if section.choice.secret is SecretNeed.MAYBE and "no_secret" in fields:
            section.secret, section.reference, refused = None, "", ""
        scheme = "file" if fields.get("home") == "file" or not draft.has_keyring else "keyring"
        try:
            await self._place(section, scheme, request.match_info["name"])
        except BridgeError as problem:
            refused = tell_problem(problem)
        problems = section.take(fields, draft.directory)
        if refused:
            problems["client_secret"], section.is_good = refused, False
        if problems:
            return self._settings_page(request, section, problems)
        return see_other("/setup/accounts")

    async def _place(self, section: Section, scheme: str, name: str) -> None:
        """Decide where the section's secret will be kept; once decided, that stays."""
        if section.secret is not None and not section.reference.startswith(f"${{{scheme}:"):
            section.reference = await self._installer.place(scheme, name)

    def _section(self, request: web.Request) -> Section | None:
        return self._installer.draft.sections.get(request.match_info["name"])

    def _settings_page(self, request: web.Request, section: Section, problems: Texts | None = None) -> web.Response:
        found = problems or {}
        draft, choice = self._installer.draft, section.choice
        return form_page(
            self._forms,
            request,
            "setup_settings.html",
            422 if found else 200,
            label=choice_label(choice),
            preparation=at_console(preparation(choice), draft.console_port),
            guide=guide(choice),
            action=f"/setup/provider/{request.match_info['name']}",
            choice=choice.name,
            fields=[_field(section, name, found) for name in fields_of(choice)],
            asks_secret=choice.secret is not SecretNeed.NONE,
            is_secret_optional=choice.secret is SecretNeed.MAYBE,
            secret_label=field_label(choice, "client_secret"),
            secret_problem=found.get("client_secret", ""),
            has_secret=section.secret is not None,
            has_keyring=draft.has_keyring,
            is_in_file=section.reference.startswith("${file:"),
            problem=found.get("", ""),
        )

    # --- 3: mailboxes -------------------------------------------------------------------------------------------

    async def _ask_accounts(self, request: web.Request) -> web.StreamResponse:
        draft = self._installer.draft
        if not draft.has_providers:
            return see_other(self._step())
        return self._accounts_page(request)

    async def _take_accounts(self, request: web.Request) -> web.StreamResponse:
        if not self._administrators.is_open(request):
            return _stranger()
        upload = await read_upload(request, LARGEST)
        if upload is None or not self._forms.accept(request, upload.fields.get("form", "")):
            if upload is not None and upload.is_too_large:
                return page("problem.html", 413, kind="too_large", detail="")
            return page("setup_again.html", 403)
        draft = self._installer.draft
        if not draft.has_providers:
            return see_other(self._step())
        refused = _taken(draft, upload)
        return self._accounts_page(request, refused) if refused else see_other("/setup/summary")

    def _accounts_page(self, request: web.Request, refused: _Refused = _NOTHING) -> web.Response:
        draft = self._installer.draft
        return form_page(
            self._forms,
            request,
            "setup_accounts.html",
            422 if refused else 200,
            providers=list(draft.sections),
            typed=draft.typed,
            typed_problems=refused.typed,
            file_problems=refused.in_file,
            file_name=draft.file_name,
            file_number=len(draft.file_accounts),
            file_unused=", ".join(draft.file_unused),
            ports=[
                (protocol.value, protocol.value.upper(), text, refused.ports.get(protocol.value, ""))
                for protocol, text in draft.ports.items()
            ],
            has_port_problems=bool(refused.ports),
        )

    # --- 4: summary, test, write --------------------------------------------------------------------------------

    async def _show_summary(self, request: web.Request) -> web.StreamResponse:
        return self._summary_page(request)

    async def _test(self, request: web.Request, fields: Texts) -> web.StreamResponse:
        if self._busy.locked():
            return self._summary_page(request, 409, say("A check is already under way. Please try again in a minute."))
        draft = self._installer.draft
        if not draft.is_complete:
            return see_other(self._step())
        async with self._busy:
            try:
                findings = await self._installer.rehearse(draft)
            except BridgeError as problem:
                return self._summary_page(request, 503, tell_problem(problem))
        return self._summary_page(request, findings=findings)

    async def _write(self, request: web.Request, fields: Texts) -> web.StreamResponse:
        draft = self._installer.draft
        if not draft.is_complete:
            return see_other(self._step())
        if fields.get("seen") != digest(draft.text):
            changed = say(
                "The answers have been changed in another window. Nothing has been written yet: please check "
                "them once more."
            )
            return self._summary_page(request, 409, changed)
        if self._busy.locked():
            return self._summary_page(request, 409, say("These answers are already being tested or written."))
        async with self._busy:
            try:
                await self._installer.install(draft)
            except AlreadyConfigured:
                return self._start_page(request, 409, is_other=True)
            except BridgeError as problem:
                return self._summary_page(request, 503, tell_problem(problem))
            return await self._go(request)

    async def _start(self, request: web.Request, fields: Texts) -> web.StreamResponse:
        return await self._go(request)

    async def _go(self, request: web.Request) -> web.StreamResponse:
        """Go on to the bridge, which shows the last page; this site no longer answers by then."""
        try:
            await self._installer.start()
        except BridgeError as problem:
            return self._start_page(request, 503, problem=tell_problem(problem))
        response = see_other("/welcome")
        response.force_close()
        return response

    def _start_page(
        self, request: web.Request, status: int, *, problem: str = "", is_other: bool = False
    ) -> web.Response:
        return form_page(
            self._forms,
            request,
            "setup_start.html",
            status,
            file=str(self._installer.output),
            problem=problem,
            is_other=is_other,
        )

    def _summary_page(
        self, request: web.Request, status: int = 200, problem: str = "", findings: tuple[Finding, ...] | None = None
    ) -> web.Response:
        draft = self._installer.draft
        if not draft.is_complete:
            return see_other(self._step())
        text = draft.text
        problems = [problem] if problem else _load_problems(draft)
        return form_page(
            self._forms,
            request,
            "setup_summary.html",
            status,
            text=text[:PREVIEW],
            lines_left=text[PREVIEW:].count("\n"),
            seen=digest(text),
            file=str(self._installer.output),
            files=[str(path) for path in draft.files],
            entries=[f"mail-bridge/{name}" for name in draft.entries],
            problems=problems,
            rows=findings_of(findings or ()),
            is_tested=findings is not None,
        )


def _taken(draft: Draft, upload: Upload) -> _Refused:
    """Take the upload into the answers; invalid input stays there, to be corrected."""
    typed = draft.take_typed(upload.fields.get("accounts", ""))
    if upload.is_too_large:  # the fields after the file were not read
        return _Refused(typed, [say("the file is larger than {size} MiB").format(size=LARGEST // 1024 // 1024)])
    if "no_file" in upload.fields:
        draft.drop_file()
    in_file = draft.take_file(upload.file_name, upload.content) if upload.file_name else []
    ports = draft.take_ports(upload.fields)
    if not typed and not in_file and (problem := draft.account_problem()):
        typed = [problem]
    return _Refused(typed, in_file, ports)


def _stranger() -> web.Response:
    return page("setup_stranger.html", 403)


def _field(section: Section, name: str, problems: Texts) -> _Field:
    choice = section.choice
    return _Field(
        name,
        field_label(choice, name),
        field_hint(choice, name),
        section.texts.get(name, ""),
        problems.get(name, ""),
        is_optional(choice, name),
        name == "client_secret_expires",
    )


def _load_problems(draft: Draft) -> list[str]:
    """Why the file as a whole would be refused, such as its size."""
    try:
        draft.loaded()
    except ConfigError as problem:
        return [sentence.told(say) for sentence in problem.sentences[:5]]
    return []
