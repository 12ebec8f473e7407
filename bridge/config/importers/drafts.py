"""Turns one account's options into the provider it needs: kind, flow, and remarks on what differs from before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

from bridge.advice.said import Said, said
from bridge.config.importers.accounts import SAMPLE_TEXT, Account, Globals, NotCarried
from bridge.config.importers.servers import host_of, microsoft
from bridge.config.microsoft import SHARED_TENANTS, SIGN_IN_SCOPES
from bridge.config.presets import (
    CLOUDS,
    GOOGLE_MAIL_SCOPE,
    GOOGLE_SCOPES,
    MICROSOFT_HOSTS,
    OAUTH2_PRESETS,
    Cloud,
    OAuth2Preset,
)
from bridge.config.provider import Flow
from bridge.secret import Secret

Setting = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to say about a provider; `to_do` if somebody must act before it works."""

    text: Said
    to_do: bool = False

    def with_redirect(self, uri: str) -> Remark:
        """The same with the redirect URI filled in, which is known only once all accounts are."""
        arguments = tuple((name, uri if name == "redirect_uri" else value) for name, value in self.text.arguments)
        return replace(self, text=replace(self.text, arguments=arguments))


@dataclass(frozen=True, slots=True)
class Draft:
    """A provider as one account needs it. Accounts whose drafts have the same `identity` may share one provider."""

    title: str
    """What to call it, where there is no other of its kind."""
    family: str | None
    """Whose mail servers it uses; None if no preset knows them."""
    settings: Mapping[str, Setting]
    """Keys of our `providers` section and their values, without secrets and mail servers."""
    redirect_uri: str
    """Where the browser came back to with the other program; empty where no browser is used."""
    client_secret: Secret[str] | None
    hidden_secret: Said | None
    """Why there is a secret that is not known; None if there is no such secret."""
    service_account: Secret[str] | None
    """The JSON key, where it stood in the file itself."""
    secret_section: str
    """The section of the other file that has the secret or the key."""
    domains: tuple[str, ...]
    """Names by which its mail servers may be found."""
    remarks: tuple[Remark, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """All by which providers differ, except for the client secret and the redirect URI."""
        key = self.service_account.reveal() if self.service_account is not None else ""
        return self.family, tuple(self.settings.items()), key


@dataclass(slots=True)
class _Options:
    """An account's options as they are read, and what there is to say of them."""

    account: Account
    switches: Globals
    directory: Path
    remarks: list[Remark] = field(default_factory=list)

    def get(self, option: str) -> str:
        return self.account.get(option)

    def remark(self, text: Said, *, to_do: bool = False) -> None:
        self.remarks.append(Remark(text, to_do))

    def path(self, option: str) -> str:
        """The option as an absolute path; the other program resolved it against the directory it was started in."""
        return absolute(self.get(option), self.directory)


def absolute(path: str, directory: Path) -> str:
    """A path from the other file, absolute because our file may be elsewhere; another system's path stays as it is."""
    is_whole = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    return path if is_whole else str(directory / path)


def draft(account: Account, switches: Globals, directory: Path) -> Draft:
    """What this account needs. Raises: NotCarried."""
    options = _Options(account, switches, directory)
    flow = _flow(options)
    if flow is Flow.SERVICE_ACCOUNT:
        return _google_service_account(options)
    token_host = host_of(options.get("token_url"))
    if not token_host or not options.get("client_id"):
        raise NotCarried(said("token_url or client_id is missing, so it did not work in the old program either"))
    if SAMPLE_TEXT in options.get("client_id") or SAMPLE_TEXT in options.get("token_url"):
        raise NotCarried(said("it still holds the text of the sample configuration"))
    if token_host in _GOOGLE_HOSTS:
        return _google(options, flow)
    if (cloud := MICROSOFT_HOSTS.get(token_host)) is not None:
        return _microsoft(options, flow, cloud)
    return _other(options, flow, token_host)


def _flow(options: _Options) -> Flow | None:
    """None for the password grant (RFC 6749 section 4.3). With a permission_url that program heeds only `device`."""
    written = options.get("oauth2_flow")
    if options.get("permission_url"):
        return Flow.DEVICE if written == "device" else Flow.BROWSER
    if written in {"client_credentials", "service_account"}:
        return Flow(written)
    if written == "password":
        return None
    raise NotCarried(
        said(
            "it has no permission_url, and no oauth2_flow that works without one, so it did not work in the old "
            "program either"
        )
    )


def _secret(options: _Options) -> tuple[Secret[str] | None, Said | None]:
    """The client secret, or why there is one that cannot be read."""
    written = options.get("client_secret")
    if written and SAMPLE_TEXT not in written:
        return Secret(written), None
    if options.get("client_secret_encrypted"):
        return None, said("the old file has it only in encrypted form, with the password of whoever used it")
    return None, None


# --- Google ---------------------------------------------------------------------------------------------------------

_GOOGLE_HOSTS = frozenset({"oauth2.googleapis.com", "accounts.google.com", "www.googleapis.com"})


def _google(options: _Options, flow: Flow | None) -> Draft:
    if flow is Flow.CLIENT_CREDENTIALS:
        raise NotCarried(
            said("Google has no client_credentials for mail; use `flow: service_account` with its JSON key")
        )
    if flow is not Flow.BROWSER:
        options.remark(said("People sign in in the browser here: Google allows no other way to reach a person's mail."))
    secret, hidden = _secret(options)
    if secret is None and hidden is None:
        hidden = said("the old file has none, but Google requires one")
    settings: dict[str, Setting] = {"kind": "google", "client_id": options.get("client_id")}
    _google_scopes(options, settings, preset=GOOGLE_SCOPES)
    return _drafted(options, "gmail", "google", settings, secret, hidden)


def _google_service_account(options: _Options) -> Draft:
    """In the other program's file, client_id says what client_secret is: the path of a JSON key, or the key itself."""
    what, key = options.get("client_id"), options.get("client_secret")
    if what not in {"file", "key"} or not key or SAMPLE_TEXT in key:
        raise NotCarried(
            said("its service account key is missing: client_id must be `file` or `key`, client_secret the key")
        )
    if what == "key" and not _is_service_account(key):
        raise NotCarried(
            said("client_secret is not the JSON key of a service account; make one, and use client_id = file")
        )
    settings: dict[str, Setting] = {"kind": "google", "flow": Flow.SERVICE_ACCOUNT.value}
    if what == "file":
        settings["service_account_file"] = options.path("client_secret")
    _google_scopes(options, settings, preset=(GOOGLE_MAIL_SCOPE,))
    inline = Secret(key) if what == "key" else None
    return _drafted(options, "gmail-service-account", "google", settings, None, None, service_account=inline)


def _is_service_account(key: str) -> bool:
    try:
        found = json.loads(key)
    except (ValueError, RecursionError):
        return False
    needed = ("client_email", "private_key")
    is_whole = isinstance(found, dict) and all(isinstance(found.get(name), str) for name in needed)
    return is_whole and found.get("type") == "service_account"


def _google_scopes(options: _Options, settings: dict[str, Setting], *, preset: tuple[str, ...]) -> None:
    scopes = _words(options.get("oauth2_scope"))
    if scopes and set(scopes) - set(GOOGLE_SCOPES) - SIGN_IN_SCOPES:
        settings["scopes"] = tuple(dict.fromkeys((*scopes, *(scope for scope in preset if scope not in scopes))))


# --- Microsoft ------------------------------------------------------------------------------------------------------

_AUTHORITY = re.compile(r"/([^/]+)/oauth2(/v2\.0)?/(?:authorize|token|devicecode)/?")
_LIVE = re.compile(r"/oauth20_(?:authorize|token|connect)\.srf")
"""Paths of login.live.com, for private accounts: the tenant `consumers` of other hosts."""


def _microsoft(options: _Options, flow: Flow | None, cloud: Cloud) -> Draft:
    if flow is None:
        flow = Flow.BROWSER
        options.remark(
            said(
                "The old program sent each person's password to Microsoft (oauth2_flow = password); mail-bridge never "
                "does that: people sign in once, in the browser. Before the first sign-in, register the redirect URI "
                "{redirect_uri} (type Web, or Mobile and desktop for an app without a secret).",
                redirect_uri="",
            ),
            to_do=True,
        )
    cloud = _exact_cloud(options, cloud)
    settings: dict[str, Setting] = {"kind": "microsoft", "tenant": _tenant(options)}
    if cloud is not Cloud.PUBLIC:
        settings["cloud"] = cloud.value
    settings["client_id"] = options.get("client_id")
    if flow is not Flow.BROWSER:
        settings["flow"] = flow.value
    secret, hidden = _microsoft_credential(options, flow, settings)
    _microsoft_scopes(options, flow, cloud, settings)
    title = "office365" if cloud is Cloud.PUBLIC else f"office365-{cloud.value}"
    title += "-app" if flow is Flow.CLIENT_CREDENTIALS else ""
    return _drafted(options, title, microsoft(cloud), settings, secret, hidden, browser=flow is Flow.BROWSER)


def _exact_cloud(options: _Options, cloud: Cloud) -> Cloud:
    """GCC High and DoD sign in at the same host; the mail server in the scope tells them apart."""
    is_dod = cloud is Cloud.US_GOV and "outlook-dod." in options.get("oauth2_scope")
    return Cloud.US_DOD if is_dod else cloud


def _tenant(options: _Options) -> str:
    tenants: dict[str, str] = {}
    for option in ("permission_url", "token_url"):
        url = options.get(option)
        if not url:
            continue
        path = urlsplit(url).path if host_of(url) else ""
        match = _AUTHORITY.fullmatch(path)
        if match is None and not _LIVE.fullmatch(path):
            raise NotCarried(
                said(
                    "its {option} is not of a form that Microsoft uses; write the provider with `tenant`", option=option
                )
            )
        tenant = match[1] if match is not None else "consumers"
        tenants.setdefault(tenant.lower(), tenant)
        if match is not None and not match[2]:
            options.remark(said("Its URLs were those of version 1; mail-bridge uses version 2 of the same tenant."))
    own = [tenant for key, tenant in tenants.items() if key not in SHARED_TENANTS]
    if len(own) > 1:
        raise NotCarried(said("permission_url and token_url name two different tenants"))
    return own[0] if own else next(reversed(tenants.values()))


def _microsoft_credential(
    options: _Options, flow: Flow, settings: dict[str, Setting]
) -> tuple[Secret[str] | None, Said | None]:
    """In the other program, a secret wins over a certificate; public clients have neither."""
    secret, hidden = _secret(options)
    certificate, key = options.get("jwt_certificate_path"), options.get("jwt_key_path")
    if flow is Flow.DEVICE:
        if secret or hidden is not None or (certificate and key):
            options.remark(
                said(
                    "The client secret (or certificate) is left out: Microsoft lets only public clients sign in with a "
                    "code."
                )
            )
        return None, None
    if secret is None and hidden is None and certificate and key:
        settings["client_certificate"] = options.path("jwt_certificate_path")
        settings["client_certificate_key"] = options.path("jwt_key_path")
    elif certificate or key:
        options.remark(said("The certificate is left out: with a client secret, or without its key, it was not used."))
    if flow is Flow.CLIENT_CREDENTIALS and "client_certificate" not in settings and secret is None and hidden is None:
        if not options.switches.login_password_is_secret:
            raise NotCarried(said("client_credentials need a client secret or a certificate, but it has neither"))
        hidden = said("in the old program, it was the password with which mail programs logged in")
    return secret, hidden


def _microsoft_scopes(options: _Options, flow: Flow, cloud: Cloud, settings: dict[str, Setting]) -> None:
    scopes = [scope for scope in _words(options.get("oauth2_scope")) if scope not in SIGN_IN_SCOPES]
    preset: tuple[str, ...] = CLOUDS[cloud].scopes
    if flow is Flow.CLIENT_CREDENTIALS:
        preset = (CLOUDS[cloud].app_scope,)
        scopes = [scope for scope in scopes if scope.endswith("/.default")]
    services = {host_of(scope) for scope in scopes}
    is_mail = len(services) == 1 and not services & {"", "graph.microsoft.com"}
    if scopes and not is_mail:
        options.remark(
            said("The scopes are those of mail-bridge; these were others: {scopes}", scopes=" ".join(scopes))
        )
    elif scopes and _same_service(scopes) != _same_service(preset):
        settings["scopes"] = tuple(dict.fromkeys(scopes))


def _same_service(scopes: Iterable[str]) -> frozenset[str]:
    """outlook.office365.com and outlook.office.com are two names of one service."""
    return frozenset(scope.lower().replace("//outlook.office365.com/", "//outlook.office.com/") for scope in scopes)


# --- any other ------------------------------------------------------------------------------------------------------

_PRESETS: Mapping[str, OAuth2Preset] = {
    **{host_of(str(values["token_url"])): preset for preset, values in OAUTH2_PRESETS.items()},
    "oauth.yandex.ru": OAuth2Preset.YANDEX,
}


def _other(options: _Options, flow: Flow | None, token_host: str) -> Draft:
    if flow is None:
        raise NotCarried(
            said(
                "it sent the password of each person to the provider (oauth2_flow = password), which mail-bridge never "
                "does; write a provider with `authorization_url`, where people sign in in the browser"
            )
        )
    preset = _PRESETS.get(token_host)
    known = OAUTH2_PRESETS[preset] if preset is not None else {}
    settings: dict[str, Setting] = {"kind": "oauth2"}
    if preset is not None:
        settings["preset"] = preset.value
    settings["client_id"] = options.get("client_id")
    if flow is not Flow.BROWSER:
        settings["flow"] = flow.value
    urls = {"token_url": options.get("token_url")}
    if flow is not Flow.CLIENT_CREDENTIALS:
        key = "device_url" if flow is Flow.DEVICE else "authorization_url"
        urls = {key: options.get("permission_url"), **urls}
    settings |= {key: url for key, url in urls.items() if url != known.get(key)}
    scopes = _words(options.get("oauth2_scope"))
    if not scopes:
        raise NotCarried(said("oauth2_scope is missing, so it did not work in the old program either"))
    if {*scopes} - {"offline_access"} != {*known.get("scopes", ())}:
        settings["scopes"] = scopes
    if resource := options.get("oauth2_resource"):
        settings["resource"] = resource
    secret, hidden = _secret(options)
    if flow is Flow.CLIENT_CREDENTIALS and secret is None and hidden is None:
        hidden = said("the old file has none, but client_credentials need one")
    title = preset.value if preset is not None else _title(token_host)
    family = preset.value if preset is not None else None
    return _drafted(options, title, family, settings, secret, hidden, browser=flow is Flow.BROWSER)


def _title(host: str) -> str:
    """`zoho` of accounts.zoho.com, `example` of login.example.co.uk."""
    labels = [re.sub(r"[^a-z0-9-]", "", label).strip("-") for label in host.split(".")]
    named = [label for label in labels[:-1] if len(label) > 3]
    return next(reversed(named), "") or "provider"


def _drafted(
    options: _Options,
    title: str,
    family: str | None,
    settings: Mapping[str, Setting],
    secret: Secret[str] | None,
    hidden: Said | None,
    *,
    service_account: Secret[str] | None = None,
    browser: bool = True,
) -> Draft:
    has_browser = browser and settings.get("flow") != Flow.SERVICE_ACCOUNT.value
    if has_browser and (listen := options.get("redirect_listen_address")):
        options.remark(
            said(
                "redirect_listen_address ({address}) is left out: the console listens where `console` says.",
                address=listen,
            )
        )
    urls = (options.get("permission_url"), options.get("token_url"))
    return Draft(
        title=title,
        family=family,
        settings=settings,
        redirect_uri=options.get("redirect_uri") if has_browser else "",
        client_secret=secret,
        hidden_secret=hidden,
        service_account=service_account,
        secret_section=options.account.secret_section,
        domains=tuple(filter(None, (*map(host_of, urls), options.account.address.rpartition("@")[2]))),
        remarks=tuple(dict.fromkeys(options.remarks)),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split()))
