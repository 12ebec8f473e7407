"""The first set-up's names for providers and their settings, and what must be prepared before it can begin."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.config.presets import DEFAULT_PORTS
from bridge.model import Protocol, TlsMode
from bridge.ui.i18n import say, spoken
from bridge.ui.setup.answers import Choice


def choice_label(choice: Choice) -> str:
    """A line of the list of providers."""
    texts: Mapping[Choice, str] = {
        Choice.GOOGLE: say("Gmail, Google Workspace: each person signs in once, in the browser"),
        Choice.GOOGLE_SERVICE: say("Google Workspace, service account: nobody signs in"),
        Choice.MICROSOFT: say("Office 365: each person signs in once, in the browser"),
        Choice.MICROSOFT_DEVICE: say("Office 365, for a server without a browser: a code, typed in any browser"),
        Choice.MICROSOFT_APP: say("Exchange Online, the app alone: nobody signs in"),
        Choice.FASTMAIL: "Fastmail",
        Choice.YANDEX: "Yandex",
        Choice.YAHOO: "Yahoo",
        Choice.AOL: "AOL",
        Choice.OTHER: say("Another provider of OAuth 2.0: each person signs in once, in the browser"),
    }
    return texts[choice]


def preparation(choice: Choice) -> str:
    """What must be there before the questions can be answered."""
    match choice.kind:
        case "google" if choice is Choice.GOOGLE:
            return say("Needed at Google: an OAuth client of type Desktop app, with the Gmail API enabled.")
        case "google":
            return say("Needed at Google: a service account with domain-wide delegation for https://mail.google.com/.")
        case "microsoft" if choice is Choice.MICROSOFT:
            return say(
                "Needed at Microsoft: an app registration with the redirect URI http://localhost:3017/ of type Web."
            )
        case "microsoft" if choice is Choice.MICROSOFT_DEVICE:
            return say(
                "Needed at Microsoft: an app registration with “Allow public client flows” set to Yes, without a "
                "secret."
            )
        case "microsoft":
            return say(
                "Needed at Microsoft: an app with application permissions, and its service principal in Exchange."
            )
        case _:
            return say(
                "A client must be registered with the provider, with the redirect URI http://localhost:3017/. "
                "See docs/providers.md"
            )


def guide(choice: Choice) -> str:
    """Where it is told click by click; empty where the provider's own pages are all there is."""
    return f"docs/guides/{spoken()}/{choice.kind}.md" if choice.kind in {"google", "microsoft"} else ""


def field_label(choice: Choice, name: str) -> str:
    """What is asked for; the words are those of the providers' own pages."""
    match name:
        case "client_id":
            return say("Application (client) ID") if choice.kind == "microsoft" else say("Client ID")
        case "client_secret":
            return say("Client secret: its Value") if choice.kind == "microsoft" else say("Client secret")
        case "tenant":
            return say("Tenant: its GUID or its domain")
        case "authorization_url":
            return (
                say("OAuth 2.0 authorization endpoint (v2)") if choice.kind == "microsoft" else say("Authorization URL")
            )
        case "token_url":
            return say("OAuth 2.0 token endpoint (v2)") if choice.kind == "microsoft" else say("Token URL")
        case "client_secret_expires":
            return say("Day on which the secret expires")
        case "service_account_file":
            return say("Path of the service account's JSON key file")
        case "scopes":
            return say("Scopes, separated by spaces")
        case "ca_file":
            return say("Path of a file with certificates to trust (PEM)")
        case _:
            return say("{protocol} server").format(protocol=name.upper())


def field_hint(choice: Choice, name: str) -> str:
    """A line below it; empty where the label says it all."""
    match name:
        case "client_id" if choice is Choice.GOOGLE:
            return say("For example 1234-abcd.apps.googleusercontent.com")
        case "tenant":
            return say("Or leave this empty, and paste the two URLs of the portal's Endpoints page.")
        case "client_secret_expires":
            return say("For example 2027-01-31, as the portal shows it. Without it, nobody is warned in time.")
        case "service_account_file":
            return say("On this computer.")
        case "scopes":
            return say("As the provider's documentation names them, including openid and email if it knows these.")
        case "ca_file":
            return say("For a provider whose certificate authority the system does not know.")
        case "imap" | "pop3" | "smtp":
            usual, starttls = (DEFAULT_PORTS[Protocol(name), tls] for tls in (TlsMode.IMPLICIT, TlsMode.STARTTLS))
            return say(
                "For example mail.example.com:{usual}, or mail.example.com:{starttls} starttls. Leave it empty "
                "if there is none."
            ).format(usual=usual, starttls=starttls)
        case _:
            return ""
