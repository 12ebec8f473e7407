"""The table: every problem of a provider, a mail server or our own store that we know, whose turn it is, one sentence.

Which answer leads to which row: see `provider` for OAuth, `mail` for mail servers. Sources: docs/quirks.md. Each
sentence is a msgid of the catalogues in ui/locale: after a change run scripts/translate.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from bridge.advice.base import Advice, Level, Turn

_EXCEPTIONS = frozenset({"device.pending", "sign_in.unattended"})
"""Exceptions to the rule that waiting helps exactly where it is nobody's turn: while a person enters a code, the
program only has to poll; and where nobody has to sign in there is nothing to wait for."""

_GROUPS: Final[tuple[tuple[Turn, Level, Mapping[str, str]], ...]] = (
    (
        Turn.NOBODY,
        "info",
        {
            "sign_in.unattended": (
                "Nobody has to sign in for {mailbox}: the provider {provider} lets mail-bridge itself open mailboxes."
            ),
            "device.slow_down": "The sign-in service wants to be asked less often. No action is needed.",
            "mail.too_many": "The mailbox has too many connections just now. No action is needed.",
            "mail.throttled": "The mail server asks for a pause. No action is needed.",
            "mail.token_expired": (
                "The mail server has ended the session because its access token has expired. No action is needed: the "
                "mail program connects again."
            ),
            "mail.session_over": (
                "The mail server has ended the session because it lasted too long. No action is needed: the mail "
                "program connects again."
            ),
        },
    ),
    (
        Turn.NOBODY,
        "warning",
        {
            "oauth.unreachable": (
                "The sign-in service cannot be used just now. No action is needed. If this lasts, the administrator of "
                "mail-bridge can find the reason with `mail-bridge check --online`."
            ),
            "oauth.temporary": "The sign-in service is having problems. No action is needed.",
            "microsoft.loop": "Microsoft asks mail-bridge to wait for a while. No action is needed.",
            "microsoft.temporary": "Microsoft is having problems. No action is needed.",
            "mail.crowded": (
                "All connections that the mailbox is allowed are in use just now. No action is needed. If this lasts, "
                "a mail program is keeping too many of them open."
            ),
            "mail.busy": "The mail server is having problems. No action is needed.",
            "mail.unreachable": (
                "The mail server cannot be used just now. No action is needed. If this lasts, the administrator of "
                "mail-bridge can find the reason with `mail-bridge check --online`."
            ),
            "mail.slow": (
                "The mail server has not answered within {seconds} s. No action is needed. If this lasts, the "
                "administrator of mail-bridge can find the reason with `mail-bridge check --online`."
            ),
        },
    ),
    (
        Turn.USER,
        "info",
        {
            "sign_in.cancelled": "The sign-in was cancelled.",
            "sign_in.expired": (
                "The time for this sign-in ran out. If the provider showed an error instead, forward it to the "
                "administrator of mail-bridge, who may learn more from `mail-bridge check --online`."
            ),
            "oauth.declined": "The sign-in was declined in the browser. Please try again.",
            "device.pending": "Nobody has entered the code on the provider's page yet.",
            "device.expired": "The code was not entered before it expired. Start the sign-in again.",
            "microsoft.cancelled": "The sign-in was cancelled in the browser. Please try again.",
        },
    ),
    (
        Turn.USER,
        "warning",
        {
            "sign_in.first": "Nobody has signed in yet. Please sign in.",
            "sign_in.password": (
                "A mail program wants to open this mailbox with a password of its own. Please sign in and confirm that "
                "the mail program is yours."
            ),
            "password.own": (
                "The local password is the mail program's own, and mail-bridge keeps only a hash of it. A new one can "
                "be made; it must then be entered in the mail program."
            ),
            "password.first_use": (
                "The mail program's first password is kept as the local one once somebody has signed in and confirmed "
                "it. A new one can be made instead; it must then be entered in the mail program."
            ),
            "sign_in.unknown_state": (
                "This answer does not belong to any sign-in under way: it has already been used, or is too old. Start "
                "the sign-in again."
            ),
            "sign_in.not_asked": (
                "The sign-in service cannot be reached just now, but nothing is lost: reload the page in {seconds} "
                "seconds, or enter its address again."
            ),
            "sign_in.unreachable": (
                "The sign-in service cannot be used just now. Start the sign-in again in a few minutes; if it fails "
                "again, the administrator of mail-bridge can find the reason with `mail-bridge check --online`."
            ),
            "sign_in.configuration_changed": "The configuration has changed. Start the sign-in again.",
            "sign_in.bug": (
                "The fault is in mail-bridge, and is in its log. Please try again, or tell your administrator."
            ),
            "sign_in.missing_scope": (
                "The sign-in does not allow {scopes}. Sign in again and leave every box ticked; if there is none, the "
                "administrator of mail-bridge must add this permission to the app."
            ),
            "sign_in.not_adopted": "The provider does not accept this token. Please sign in instead.",
            "sign_in.settings_changed": (
                "The provider's settings have changed since the last sign-in. Please sign in again."
            ),
            "sign_in.other_person": "The configuration now requires {person} to sign in. Please sign in again.",
            "sign_in.wrong_person": (
                "{somebody} has signed in, but {person} was asked to. Nothing was stored. Sign in again as {person}; "
                "a private browser window lets you choose the account. If {somebody} is right (a shared mailbox, or an "
                "address that is not the sign-in name), the administrator of mail-bridge must give the mailbox "
                "`sign_in_as: {somebody}` in the configuration."
            ),
            "sign_out.unrevoked": (
                "The provider may still accept this sign-in. The person can end it there, where the account lists the "
                "apps with access (Google: https://myaccount.google.com/permissions, Microsoft: "
                "https://myapps.microsoft.com); the administrator of the organization can end it, too."
            ),
            "oauth.ended": "The provider has ended this sign-in. Please sign in again.",
            "oauth.refresh_wrong": (
                "The provider rejects the renewal of the sign-in as wrong. It may have ended the sign-in: sign in "
                "again. If that does not help, the administrator of mail-bridge must compare client_id and the URLs "
                "with the registration."
            ),
            "sign_in.ran_out": (
                "This sign-in was valid for a few days only, which have passed. Please sign in again. With Google this "
                "happens while the app's status is Testing (7 days): the administrator of mail-bridge can end that "
                "with Publish app (Google Auth Platform, Audience)."
            ),
            "oauth.no_code": "The provider's answer contains no code. Start the sign-in again.",
            "oauth.other_sign_in": "The provider's answer was made for another sign-in. Start the sign-in again.",
            "google.no_grant": (
                "Google gave no refresh token. Remove this app at https://myaccount.google.com/permissions, then sign "
                "in again."
            ),
            "sign_in.unreadable": "The stored sign-in cannot be used any more. Please sign in again.",
            "oauth.code_spent": "The answer to the sign-in was too old, or was used twice. Start the sign-in again.",
            "oauth.not_completed": (
                "The provider did not let this sign-in succeed. Start the sign-in again; if it fails again, forward "
                "this text to the administrator of mail-bridge."
            ),
            "google.ended": (
                "The provider has ended this sign-in. With Google this happens after a change of password, when the "
                "access was removed in the account, after six months without use, and 7 days after each sign-in while "
                "the app's status is Testing. Please sign in again."
            ),
            "google.reauthentication": (
                "The organization asks for a new sign-in from time to time. Please sign in again."
            ),
            "microsoft.second_factor": "Two-factor authentication is required. Please sign in again.",
            "microsoft.consent": (
                "Consent is missing. Please sign in again. If that is not possible, an Entra administrator must grant "
                "it."
            ),
            "microsoft.unused": "The sign-in was not used for 90 days. Please sign in again.",
            "microsoft.revoked": (
                "The sign-in was ended (the password was changed, or sessions were revoked). Please sign in again."
            ),
            "microsoft.frequency": "The organization asks for a new sign-in from time to time. Please sign in again.",
            "microsoft.other_tenant": (
                "This person is not in the app's tenant. Choose the work account in the browser; if it is the right "
                "one, the administrator of mail-bridge must check tenant and URLs."
            ),
            "microsoft.not_valid": "The sign-in is not valid any more, or was used twice. Start the sign-in again.",
            "microsoft.locked": (
                "The account is locked after too many wrong passwords. Wait a while, or ask your administrator to "
                "unlock it."
            ),
            "microsoft.password": (
                "The account's password is wrong or has expired. Correct or change it in the browser, then sign in "
                "again."
            ),
            "mail.protocol_off": (
                "{protocol} is switched off in the mailbox's own settings: switch it on there (Gmail: Settings, "
                "Forwarding and POP/IMAP), or ask the administrator of the domain."
            ),
            "mail.not_authenticated": (
                "The mail server requires a login before it accepts mail: switch on authentication for outgoing mail "
                "in the mail program."
            ),
            "mail.web_login": "The provider wants this person to open the mailbox once in a web browser.",
            "mail.full": "The mailbox {mailbox} is full: delete or move messages, or ask for more room.",
        },
    ),
    (
        Turn.APP_ADMIN,
        "warning",
        {
            "setup.first": "There is no configuration yet: the administrator of mail-bridge makes one in the console.",
            "oauth.unknown": (
                "The provider answers with an error that mail-bridge does not know. The sign-in is kept and tried "
                "again; if this lasts, the administrator of mail-bridge must look at it."
            ),
            "mail.turned_away": (
                "The mail server turns this computer away before any login: it is having problems, has this network's "
                "address on a block list, or is not meant for mail programs. If this lasts, the administrator of "
                "mail-bridge must check the server's name in the configuration, and ask those who run the server."
            ),
            "mail.token_long": (
                "The access token seems to be too long for the mail server. The administrator of mail-bridge must have "
                "the provider put less into it (groups, roles), or issue short tokens without any content (opaque "
                "tokens)."
            ),
            "google.no_such_user": (
                "Google has no account with this address: the administrator of mail-bridge must correct it in the "
                "configuration."
            ),
        },
    ),
    (
        Turn.APP_ADMIN,
        "error",
        {
            "secret.ended": (
                "The client secret of {provider} expired on {day}: its tokens cannot be renewed. The administrator of "
                "mail-bridge must make a new one at the provider, and configure it with its expiry date."
            ),
            "secret.today": (
                "The client secret of {provider} expires today; after that, nobody's mail works there any more. The "
                "administrator of mail-bridge must make a new one at the provider, and configure it with its expiry "
                "date."
            ),
            "secret.tomorrow": (
                "The client secret of {provider} expires tomorrow; after that, nobody's mail works there any more. The "
                "administrator of mail-bridge must make a new one at the provider, and configure it with its expiry "
                "date."
            ),
            "secret.ends": (
                "The client secret of {provider} expires in {days} days, on {day}; after that, nobody's mail works "
                "there any more. The administrator of mail-bridge must make a new one at the provider, and configure "
                "it with its expiry date."
            ),
            "configuration.refused": (
                "The configuration file has changed, but the change has not taken effect: {problem}. The administrator "
                "of mail-bridge must see to it."
            ),
            "configuration.restart": (
                "The configuration file has changed, but what it says about {settings} only takes effect after a "
                "restart: the administrator of mail-bridge must restart it."
            ),
            "certificate.warning": (
                "The certificate of {ports}: {problem}. The administrator of mail-bridge must see to it."
            ),
            "store.unavailable": (
                "The token store cannot be used just now: {problem}. If this lasts, the administrator of mail-bridge "
                "must see to it."
            ),
            "sign_in.unsaved": (
                "The sign-in could not be saved yet: {problem}. mail-bridge keeps it in memory, and saves it as soon "
                "as the token store allows. Nobody needs to sign in again, unless mail-bridge stops before then. The "
                "administrator of mail-bridge must see to the store."
            ),
            "store.corrupt": (
                "The token store holds something that cannot be used: {problem}. The administrator of mail-bridge "
                "must see to it."
            ),
            "oauth.registration": (
                "The provider cannot be used with the app registration or the settings that mail-bridge has: the "
                "administrator of mail-bridge must correct them."
            ),
            "oauth.no_grant": (
                "The provider gave no refresh token: the administrator of mail-bridge must add the scope for it (often "
                "offline_access), or allow it in the app's registration."
            ),
            "microsoft.no_grant": (
                "Microsoft gave no refresh token: the administrator of mail-bridge must add the permission "
                "offline_access to the app."
            ),
            "oauth.other_client": (
                "The provider's answer was made for another app registration: the administrator of mail-bridge must "
                "check client_id."
            ),
            "oauth.invalid_client": (
                "The provider does not accept client_id and client_secret: the administrator of mail-bridge must "
                "correct them or, with `kind: oauth2`, the way in which they are sent (client_authentication)."
            ),
            "oauth.unauthorized_client": (
                "The provider does not know the app registration, does not accept its client_secret, or does not allow "
                "it this kind of sign-in: the administrator of mail-bridge must check which."
            ),
            "oauth.redirect_uri": (
                "The redirect URI is not the registered one: the administrator of mail-bridge must register it "
                "exactly as the configuration has it."
            ),
            "oauth.scope": (
                "The provider does not know one of the `scopes`, or the service that they name: the administrator of "
                "mail-bridge must correct them."
            ),
            "oauth.invalid_request": (
                "The provider rejects the request as wrong: the administrator of mail-bridge must compare client_id, "
                "redirect_uri and the URLs with the registration."
            ),
            "oauth.dpop": (
                "The provider binds tokens to a key of the program (DPoP), which mail-bridge does not support: the "
                "administrator of mail-bridge must switch that off in the app's registration."
            ),
            "oauth.unsupported_grant": (
                "The provider's token_url does not support this kind of sign-in: the administrator of mail-bridge must "
                "check it."
            ),
            "oauth.unsupported_response": (
                "The provider does not support this kind of sign-in: the administrator of mail-bridge must check "
                "authorization_url."
            ),
            "oauth.tenant": (
                "The tenant does not exist: the administrator of mail-bridge must check it in the configuration."
            ),
            "app_only.refused": (
                "The provider does not accept the app's own sign-in: the administrator of mail-bridge must check its "
                "secret, certificate or key."
            ),
            "google.org_internal": (
                "The app is for another organization only: the administrator of mail-bridge must use an app "
                "registration of this organization."
            ),
            "google.app_policy": (
                "Google blocks the app because it does not follow Google's policy: the administrator of mail-bridge "
                "must complete its consent screen and verification, or make it Internal."
            ),
            "google.deleted_client": (
                "The app registration was deleted at the provider: the administrator of mail-bridge must make a new "
                "one and put its client_id and client_secret into the configuration."
            ),
            "google.disabled_client": (
                "The app registration is disabled at the provider: the administrator of mail-bridge must enable it."
            ),
            "google.key": (
                "Google does not accept the service account's key: the administrator of mail-bridge must make a new "
                "one."
            ),
            "google.clock": (
                "Google considers the request too old or too new: the administrator of mail-bridge must correct this "
                "computer's clock."
            ),
            "microsoft.redirect_uri": (
                "The redirect URI is not the registered one: the administrator of mail-bridge must register it "
                "exactly as the configuration has it."
            ),
            "microsoft.wrong_secret": (
                "The client secret is wrong: the administrator of mail-bridge must set client_secret to the secret's "
                "Value, not its Secret ID."
            ),
            "microsoft.secret_expired": (
                "The client secret has expired: the administrator of mail-bridge must make a new one and put it in "
                "place."
            ),
            "microsoft.secret_missing": (
                "The app is registered as type Web, which needs a client_secret: the administrator of mail-bridge "
                "must configure one."
            ),
            "microsoft.public_client": (
                "The app is registered as a public client, which takes no client_secret: the administrator of "
                "mail-bridge must remove it, or register the redirect URI as type Web."
            ),
            "microsoft.not_public": (
                "Only a public client lets people sign in with a code: the administrator of mail-bridge must set Allow "
                "public client flows to Yes in the app registration (Authentication)."
            ),
            "microsoft.single_page": (
                "The redirect URI is registered as a single-page application: the administrator of mail-bridge must "
                "register it as type Web."
            ),
            "microsoft.certificate": (
                "Microsoft does not accept the app's certificate: the administrator of mail-bridge must upload it to "
                "the app registration, or configure the one that is there and has not expired."
            ),
            "microsoft.clock": (
                "Microsoft considers what the app's certificate has signed too old or too new: the administrator of "
                "mail-bridge must correct this computer's clock."
            ),
            "microsoft.unknown_app": (
                "This tenant does not know the app: the administrator of mail-bridge must check client_id and tenant. "
                "An app of another tenant is known here once somebody here has consented to it."
            ),
            "microsoft.tenant": (
                "The tenant is not the right one for this app: the administrator of mail-bridge must check tenant and "
                "URLs."
            ),
            "microsoft.scope": (
                "The administrator of mail-bridge must correct `scopes`, or add these permissions to the app "
                "registration."
            ),
            "mail.basic_off": (
                "The mail server no longer accepts passwords, only OAuth sign-ins: the mail program must send through "
                "mail-bridge, and the administrator of mail-bridge must check this account's mail server."
            ),
            "mail.bad_credentials_form": (
                "The mail server cannot read the sign-in that mail-bridge sends: the administrator of mail-bridge "
                "must check the spelling of the address {mailbox} in the configuration."
            ),
            "trust.unusable": (
                "The certificates that mail-bridge trusts ({place}) cannot be used: {reason}. The administrator of "
                "mail-bridge must see to it."
            ),
            "mail.tls": (
                "A secure connection to the mail server is not possible. A security program or a proxy on this network "
                "may be replacing its certificate: the administrator of mail-bridge must exempt mail-bridge there, or "
                "name the certificate as ca_file."
            ),
        },
    ),
    (
        Turn.TENANT_ADMIN,
        "warning",
        {
            "oauth.policy": (
                "The organization's rules forbid this sign-in: its administrator must allow this app, person or place."
            ),
            "microsoft.conditional_access": (
                "Conditional Access blocks this sign-in: an Entra administrator must allow this app, device or place."
            ),
            "microsoft.device": (
                "The organization lets in only devices that it knows and manages. Sign in on such a device, in a "
                "browser that identifies the device (Edge). If that is refused too, an Entra administrator must "
                "register the device again, or let this app in without such a device."
            ),
            "microsoft.assignment": "This person is not assigned to the app: an Entra administrator must assign them.",
            "microsoft.disabled": "The account is disabled: an Entra administrator must enable it.",
            "oauth.deleted": (
                "The account was deleted at the provider. An administrator of the organization can restore it for some "
                "weeks (30 days at Microsoft, 20 at Google)."
            ),
            "mail.not_accepted": (
                "The mail server accepts the sign-in but not this mailbox: {protocol} is switched off for it, its "
                "address is not {mailbox}, or the app lacks the permission. The mailbox's administrator must check all "
                "three."
            ),
            "mail.not_connected": (
                "The mail server accepts the sign-in but does not open the mailbox {mailbox}: either {protocol} is "
                "switched off for it, or {person} has no access to it. An Exchange administrator must check both; if "
                "both are in order, the server is having problems."
            ),
            "mail.no_right": (
                "{person} has signed in, but may not open the mailbox {mailbox}. The mailbox's administrator must "
                'grant them full access and, for sending, the permission "Send as".'
            ),
            "mail.unknown": (
                "The mail server refuses the mailbox {mailbox} in words that mail-bridge does not know: its "
                "administrator must look at them."
            ),
            "mail.forbidden": (
                "The mail server does not let the mailbox {mailbox} in over {protocol}: its administrator must allow "
                "it."
            ),
            "mail.protocol_off_domain": (
                "{protocol} is switched off for the whole domain: its administrator must allow it."
            ),
            "mail.smtp_off_mailbox": (
                "Authenticated SMTP is switched off for this mailbox. An Exchange administrator can allow it: "
                "Set-CASMailbox {mailbox} -SmtpClientAuthenticationDisabled $false."
            ),
            "mail.policy": (
                "The organization's sign-in rules (Conditional Access or an authentication policy) do not let mail "
                "programs in. Its administrator must allow this app or this protocol."
            ),
            "mail.send_as": (
                "The sender's address is not the mailbox {mailbox}: the mail program must use that address, or an "
                "Exchange administrator must give the right to send as the other one."
            ),
        },
    ),
    (
        Turn.TENANT_ADMIN,
        "error",
        {
            "app_only.consent": (
                "The organization has not allowed this app to open mailboxes by itself: an Entra administrator must "
                "grant consent to its application permissions (IMAP.AccessAsApp, POP.AccessAsApp, SMTP.SendAsApp)."
            ),
            "google.admin_policy": (
                "The organization does not allow this app: its Google Workspace administrator must trust it (Admin "
                "console, Security, API controls)."
            ),
            "google.delegation": (
                "The service account may not act for the people of this domain: a Google Workspace administrator must "
                "give its client ID domain-wide delegation for https://mail.google.com/."
            ),
            "microsoft.app_disabled": (
                "The app is disabled in the organization: an Entra administrator must let people sign in to it "
                "(Enterprise applications, Properties)."
            ),
            "microsoft.admin_consent": "An Entra administrator must grant consent to this app for the organization.",
            "microsoft.no_exchange": (
                "The organization of this tenant has no Exchange Online that the app may use: an administrator of "
                "Microsoft 365 must check its subscriptions. If the mailboxes are in another tenant, the app must be "
                "registered there."
            ),
            "mail.smtp_off_tenant": (
                "Authenticated SMTP is switched off for the whole organization. An Exchange administrator can allow "
                "it for this mailbox (Set-CASMailbox {mailbox} -SmtpClientAuthenticationDisabled $false) or for all "
                "(Set-TransportConfig -SmtpClientAuthenticationDisabled $false)."
            ),
            "mail.security_defaults": (
                "The organization's security defaults do not let mail programs in: an Entra administrator must "
                "replace them by Conditional Access rules that allow this app."
            ),
        },
    ),
)


def _rows() -> Iterator[Advice]:
    for turn, level, sentences in _GROUPS:
        for key, sentence in sentences.items():
            yield Advice(key, turn, (turn is Turn.NOBODY) is not (key in _EXCEPTIONS), level, sentence)


ROWS: Final = tuple(_rows())

ADVICE: Final[Mapping[str, Advice]] = {advice.key: advice for advice in ROWS}
"""By key."""
