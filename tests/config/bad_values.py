"""A valid configuration, single changes to it, and the error message for each."""
# ruff: noqa: E501  rows and sentences stay whole, to be read and searched

from __future__ import annotations

GOOD = """\
providers:
  gmail:
    kind: google
    client_id: 1234.apps.googleusercontent.com
    client_secret: text
accounts:
  - address: alice@example.com
    provider: gmail
"""

MICROSOFT = """\
providers:
  office365:
    kind: microsoft
    client_id: 11111111-2222-3333-4444-555555555555
    tenant: contoso.com
accounts: [{address: a@contoso.com, provider: office365}]
"""
URLS = """authorization_url: https://login.microsoftonline.com/contoso.com/oauth2/v2.0/authorize
    token_url: https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"""

ADDRESS = 'must be an address such as alice@example.com, or "*@example.com" for a whole domain'
UNSEEN = "{}: contains an invisible character ({}): type the value by hand, or copy it as plain text"
QUOTES = "{}: is in typographic quotes, which become part of the value: write straight ones, or none"
SECTION = "must be a section: each key on a line of its own, indented"
LINES = "{}: contains a line break or a tab: write it on one line and, if it contains a \\, in '…' and not in \"…\""
A_LIST = "must be a list: each entry on a line of its own after a dash and a space, or [one, two]"

BAD_VALUES: list[tuple[str, str, str, str]] = [
    (GOOD, "kind: google", "kind: gogle", "3:5: providers.gmail.kind: must be google, microsoft or oauth2, not 'gogle' (did you mean 'google'?)"),
    (GOOD, "kind: google\n", "\n", "2:3: providers.gmail: kind is missing: google, microsoft or oauth2"),
    (GOOD, "    client_secret: text\n", "", "2:3: providers.gmail.client_secret: is missing"),
    (GOOD, "client_secret: text", "client_secret:", "5:5: providers.gmail.client_secret: is missing"),
    (GOOD, "client_secret: text", "client_secret: ''", "5:5: providers.gmail.client_secret: must be a text that is not empty"),
    (GOOD, "client_secret: text", "client_secret: {CANARY-s3cret}", "5:5: providers.gmail.client_secret: must be a text that is not empty"),
    (GOOD, "client_secret: text", "client_secrets: CANARY-s3cret", "5:5: providers.gmail.client_secrets: unknown key (did you mean 'client_secret'?)"),
    (GOOD, "1234.apps.googleusercontent.com", "a b", "4:5: providers.gmail.client_id: must be a text without spaces, and not empty"),
    (GOOD, "1234.apps.googleusercontent.com", "“1234.apps”", QUOTES.format("4:5: providers.gmail.client_id")),
    (GOOD, "client_secret: text", "client_secret: ‘CANARY-s3cret’", QUOTES.format("5:5: providers.gmail.client_secret")),
    (GOOD, "alice@example.com", "“alice@example.com”", QUOTES.format("7:5: accounts[0].address")),
    (GOOD, "1234.apps.googleusercontent.com", r'"12\u200B34"', UNSEEN.format("4:5: providers.gmail.client_id", "U+200B ZERO WIDTH SPACE")),
    (GOOD, "client_secret: text", r'client_secret: "CANARY-s3cret\uFEFF"', UNSEEN.format("5:5: providers.gmail.client_secret", "U+FEFF ZERO WIDTH NO-BREAK SPACE")),
    (GOOD, "client_secret: text", r'client_secret: "CANARY-s3cret\u00A0"', UNSEEN.format("5:5: providers.gmail.client_secret", "U+00A0 NO-BREAK SPACE")),
    (GOOD, "client_secret: text", r'client_secret: "CANARY-s3cret\n"', LINES.format("5:5: providers.gmail.client_secret")),
    (GOOD, "client_secret: text", "client_secret: 'CANARY-s3cret '", "5:5: providers.gmail.client_secret: begins or ends with a space: write it without"),
    (GOOD, "client_secret: text", r'client_secret: text' "\n" r'    token_url: "https://example.com/\u200Btoken"', UNSEEN.format("6:5: providers.gmail.token_url", "U+200B ZERO WIDTH SPACE")),
    (GOOD, "alice@example.com", r'"alice@example.com\u200B"', UNSEEN.format("7:5: accounts[0].address", "U+200B ZERO WIDTH SPACE")),
    (GOOD, "provider: gmail", r'provider: gmail' "\n" r'    sign_in_as: "bob@example.com\u200E"', UNSEEN.format("9:5: accounts[0].sign_in_as", "U+200E LEFT-TO-RIGHT MARK")),
    (GOOD, "provider: gmail", r'provider: gmail' "\n" r'    aliases: ["alice\u200B"]', UNSEEN.format("9:15: accounts[0].aliases[0]", "U+200B ZERO WIDTH SPACE")),
    (GOOD, "provider: gmail", "provider: gmail\n    aliases: [‘OFFICE\\alice’]", QUOTES.format("9:15: accounts[0].aliases[0]")),
    (GOOD, "provider: gmail", r'provider: gmail' "\n" r'    aliases: ["OFFICE\nadine"]', LINES.format("9:15: accounts[0].aliases[0]")),
    (GOOD, "provider: gmail", r'provider: gmail' "\n" r'    aliases: ["OFFICE\Laure"]', LINES.format("9:15: accounts[0].aliases[0]")),
    (GOOD, "provider: gmail", r'provider: gmail' "\n" r'    os_user: "OFFICE\thomas"', LINES.format("9:5: accounts[0].os_user")),
    (GOOD, "provider: gmail", r'provider: gmail' "\n" r'    os_user: "alice\u200B"', UNSEEN.format("9:5: accounts[0].os_user", "U+200B ZERO WIDTH SPACE")),
    (GOOD, "provider: gmail", "provider: gmail\n    os_user: ‘OFFICE\\alice’", QUOTES.format("9:5: accounts[0].os_user")),
    (GOOD, "client_secret: text", r'client_secret: text' "\n" r'    imap: {host: "imap.example.com\u200B"}', UNSEEN.format("6:12: providers.gmail.imap.host", "U+200B ZERO WIDTH SPACE")),
    (GOOD, "client_secret: text", r'client_secret: text' "\n" r'    proxy: "http://proxy\u200B.example.com:3128"', UNSEEN.format("6:5: providers.gmail.proxy", "U+200B ZERO WIDTH SPACE")),
    (GOOD, "accounts:", r'store: {path: "D:\tokens.sqlite"}' "\naccounts:", LINES.format("6:9: store.path")),
    (GOOD, "accounts:", "store: {path: “store.sqlite”}\naccounts:", QUOTES.format("6:9: store.path")),
    (GOOD, "accounts:", r'notify: {command: ["D:\tools\notify.exe", x]}' "\naccounts:", LINES.format("6:10: notify.command")),
    (GOOD, "accounts:", "notify: {command: [“tell.sh”]}\naccounts:", QUOTES.format("6:10: notify.command")),
    (GOOD, "accounts:\n  - address: alice@example.com\n    provider: gmail", "accounts: alice", "6:1: accounts: " + A_LIST),
    (GOOD, "accounts:\n  - address: alice@example.com\n    provider: gmail", "accounts: []", "6:1: accounts: must not be empty"),
    (GOOD, "address: alice@example.com", "address: alice", "7:5: accounts[0].address: " + ADDRESS),
    (GOOD, "address: alice@example.com", "address: a@b@c", "7:5: accounts[0].address: " + ADDRESS),
    (GOOD, "address: alice@example.com", "address: 'al*@b.c'", "7:5: accounts[0].address: " + ADDRESS),
    (GOOD, "address: alice@example.com", "address: 'OFFICE\\alice@b.c'", "7:5: accounts[0].address: " + ADDRESS),
    (GOOD, "address: alice@example.com", "address: mailto:alice@b.c", "7:5: accounts[0].address: " + ADDRESS),
    (GOOD, "address: alice@example.com", "address: '<alice@b.c'", "7:5: accounts[0].address: " + ADDRESS),
    (GOOD, "provider: gmail", "provider: gmial", "8:5: accounts[0].provider: no provider named 'gmial' (did you mean 'gmail'?)"),
    (GOOD, "provider: gmail", "provider: office365", "8:5: accounts[0].provider: no provider named 'office365'"),
    (GOOD, "provider: gmail", "provider: gmail\n    sign_in_as: '*@b.c'", "9:5: accounts[0].sign_in_as: must be the address of one person, such as alice@example.com, not a whole domain"),
    (GOOD, "provider: gmail", "provider: gmail\n    sign_in_as: nobody", "9:5: accounts[0].sign_in_as: must be the address of one person, such as alice@example.com, not a whole domain"),
    (GOOD, "provider: gmail", "provider: gmail\n    aliases: [ok, '*x']", '9:19: accounts[0].aliases[1]: must be one user name; for everybody of a domain, add an account "*@example.com"'),
    (GOOD, "provider: gmail", "provider: gmail\n    aliases: [ALICE@EXAMPLE.com]", "9:15: accounts[0].aliases[0]: 'ALICE@EXAMPLE.com' is an account or an alias already, in line 7"),
    (GOOD, "alice@example.com\n    provider: gmail", "'*@example.com'\n    provider: gmail\n    aliases: [a]", '7:5: accounts[0]: sign_in_as and aliases belong to one address, not to a "*@domain" pattern'),
    (GOOD, "provider: gmail", "provider: gmail\n  - {address: Alice@Example.com, provider: gmail}", "9:6: accounts[1].address: 'Alice@Example.com' is an account or an alias already, in line 7"),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: {host: 'imap.example.com:993'}", "6:12: providers.gmail.imap.host: must be the name alone, such as imap.example.com: the port has a key of its own, `port`"),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: {host: a b}", "6:12: providers.gmail.imap.host: must be the name of a server, such as imap.example.com"),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: {port: many}", "6:12: providers.gmail.imap.port: must be a whole number, not 'many'"),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: {port: 0}", "6:12: providers.gmail.imap.port: must be at least 1"),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: {port: 70000}", "6:12: providers.gmail.imap.port: must be at most 65535"),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: {port: [1]}", "6:12: providers.gmail.imap.port: must be a whole number"),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: {tls: none}", "6:12: providers.gmail.imap.tls: must be implicit or starttls, not 'none'"),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: 993", "6:5: providers.gmail.imap: " + SECTION),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: imap.gmail.com:993", "6:5: providers.gmail.imap: " + SECTION),
    (GOOD, "client_secret: text", "client_secret: text\n    imap: imap.gmail.com", "6:5: providers.gmail.imap: must be a section, such as `{host: imap.gmail.com}`"),
    (GOOD, "client_secret: text", "client_secret: text\n    pop3: pop.gmail.com", "6:5: providers.gmail.pop3: must be a section, such as `{host: pop.gmail.com}`"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    smtp: smtp.office365.com", "6:5: providers.office365.smtp: must be a section, such as `{host: smtp.office365.com}`"),
    (GOOD, "accounts:", "log: log.example.com\naccounts:", "6:1: log: " + SECTION),
    (GOOD, "client_secret: text", "client_secret: text\n    scopes: a b", "6:5: providers.gmail.scopes: " + A_LIST),
    (GOOD, "client_secret: text", "client_secret: text\n    scopes: []", "6:5: providers.gmail.scopes: must not be empty"),
    (GOOD, "client_secret: text", "client_secret: text\n    proxy: proxy:3128", "6:5: providers.gmail.proxy: must look like http://proxy.example.com:3128"),
    (GOOD, "client_secret: text", "client_secret: text\n    proxy: http://proxy..example.com:3128", "6:5: providers.gmail.proxy: must look like http://proxy.example.com:3128"),
    (GOOD, "client_secret: text", "client_secret: text\n    proxy: http://u:CANARY-s3cret@p:1", "6:5: providers.gmail.proxy: must not contain a user name or a password: if the proxy requires them, leave this out and set HTTPS_PROXY (http://user:password@host:port) where mail-bridge starts"),
    (GOOD, "client_secret: text", "client_secret: text\n    token_url: http://example.com/", "6:5: providers.gmail.token_url: must begin with https:// (http:// is for localhost only)"),
    (GOOD, "client_secret: text", "client_secret: text\n    token_url: https://[x/", "6:5: providers.gmail.token_url: is not a URL such as https://example.com/path"),
    (GOOD, "client_secret: text", "client_secret: text\n    token_url: https://login..example.com/token", "6:5: providers.gmail.token_url: is not a URL such as https://example.com/path"),
    (GOOD, "client_secret: text", "client_secret: text\n    token_url: https://u:CANARY-s3cret@example.com/", "6:5: providers.gmail.token_url: must not contain a user name or a password"),
    (GOOD, "client_secret: text", "client_secret: text\n    redirect_uri: http://localhost:3018/", "6:5: providers.gmail.redirect_uri: the browser would come back to an address where no console listens: use http://localhost:3017/ here and at the provider, or `console: 127.0.0.1:3018`"),
    (GOOD, "client_secret: text", "client_secret: text\n    redirect_uri: http://localhost/", "6:5: providers.gmail.redirect_uri: the browser would come back to an address where no console listens: use http://localhost:3017/ here and at the provider, or `console: 127.0.0.1:80`"),
    (GOOD, "client_secret: text", "client_secret: text\n    redirect_uri: http://localhost:0/", "6:5: providers.gmail.redirect_uri: the browser would come back to an address where no console listens: use http://localhost:3017/ here and at the provider, or change `console`"),
    (GOOD, "client_secret: text", "client_secret: text\n    redirect_uri: https://localhost/", "6:5: providers.gmail.redirect_uri: the browser would come back to an address where no console listens: use http://localhost:3017/ here and at the provider, or change `console`"),
    (GOOD, "client_secret: text", "client_secret: text\n    redirect_uri: http://127.0.0.1:3017/", "6:5: providers.gmail.redirect_uri: the browser would come back to an address where no console listens: use http://localhost:3017/ here and at the provider, or change `console`"),
    (GOOD, "client_secret: text", "client_secret: text\n    redirect_uri: http://localhost:3017/back", "6:5: providers.gmail.redirect_uri: the browser would come back to an address where no console listens: use http://localhost:3017/ here and at the provider, or change `console`"),
    (GOOD, "client_secret: text", "client_secret: text\n    ca_file: none.pem", "6:5: providers.gmail.ca_file: there is no file /nowhere/none.pem"),
    (GOOD, "accounts:", "listener: {}\naccounts:", "6:1: listener: unknown key (did you mean 'listeners'?)"),
    (GOOD, "accounts:", "zzz: {}\naccounts:", "6:1: zzz: unknown key; possible here: providers, accounts, listeners, console, local_password, store, notify, log, workers, language"),
    (GOOD, "accounts:", "log: {level: verbose}\naccounts:", "6:7: log.level: must be debug, info, warning or error, not 'verbose'"),
    (GOOD, "accounts:", "log: text\naccounts:", "6:1: log: " + SECTION),
    (GOOD, "accounts:", "store: {path: a, url: b}\naccounts:", "6:1: store: give `path` (one machine) or `url` (several), not both"),
    (GOOD, "accounts:", "store: {path: ~nobody-here-x/a}\naccounts:", "6:9: store.path: begins with ~, and there is no such home directory; write the whole path"),
    (GOOD, "accounts:", "notify: {command: [~nobody-here-x/a]}\naccounts:", "6:10: notify.command: begins with ~, and there is no such home directory; write the whole path"),
    (GOOD, "accounts:", "listeners: {imap: 1143}\naccounts:", "6:13: listeners.imap: write the address, too: localhost:1143"),
    (GOOD, "accounts:", "console: http://localhost:3017/\naccounts:", "6:1: console: write the address and the port alone: localhost:3017"),
    (GOOD, "accounts:", "listeners: {imap: 'imap://[::1]:1143'}\naccounts:", "6:13: listeners.imap: write the address and the port alone: [::1]:1143"),
    (GOOD, "accounts:", "listeners: {imap: [127.0.0.1]}\naccounts:", "6:20: listeners.imap[0]: '127.0.0.1' is not an address and a port such as localhost:1143"),
    (GOOD, "accounts:", "listeners: {imap: '127.0.0.1:70000'}\naccounts:", "6:13: listeners.imap: '127.0.0.1:70000' is not an address and a port such as localhost:1143"),
    (GOOD, "accounts:", "listeners: {imap: '0.0.0.0:1143'}\naccounts:", "6:13: listeners.imap: 0.0.0.0 can be reached from other machines, and passwords would cross the network unencrypted: use localhost, or add `tls: implicit` and `exposed: true`"),
    (GOOD, "accounts:", "listeners: {imap: '[::]:1143'}\naccounts:", "6:13: listeners.imap: :: can be reached from other machines, and passwords would cross the network unencrypted: use localhost, or add `tls: implicit` and `exposed: true`"),
    (GOOD, "accounts:", "listeners: {imap: 'mail.example.com:1143'}\naccounts:", "6:13: listeners.imap: mail.example.com can be reached from other machines, and passwords would cross the network unencrypted: use localhost, or add `tls: implicit` and `exposed: true`"),
    (GOOD, "accounts:", "listeners: {imap: {address: '192.0.2.1:1143', exposed: true}}\naccounts:", "6:13: listeners.imap: 192.0.2.1 can be reached from other machines, and passwords would cross the network unencrypted: use localhost, or add `tls: implicit` and `exposed: true`"),
    (GOOD, "accounts:", "listeners: {imap: {address: '192.0.2.1:1143', tls: starttls}}\naccounts:", "6:13: listeners.imap: 192.0.2.1 can be reached from other machines: use localhost or, if that is intended, add `exposed: true`"),
    (GOOD, "accounts:", "listeners: {imap: {address: '[::]:1143', tls: implicit, exposed: false}}\naccounts:", "6:13: listeners.imap: :: can be reached from other machines: use localhost or, if that is intended, add `exposed: true`"),
    (GOOD, "accounts:", "listeners: {imap: {address: '0.0.0.0:1143', tls: implicit, exposed: true}}\naccounts:", "6:13: listeners.imap: which name do mail programs use for this machine? Add it: `names: [bridge.example.com]`; the certificate is for that name"),
    (GOOD, "accounts:", "listeners: {imap: '[::ffff:127.0.0.1]:1143'}\naccounts:", "6:13: listeners.imap: write it as an IPv4 address: 127.0.0.1:1143"),
    (GOOD, "accounts:", "listeners: {imap: {address: '127.0.0.1:1', tls: implicit, key: a}}\naccounts:", "6:13: listeners.imap: certificate and key go together; without both, mail-bridge makes a certificate"),
    (GOOD, "accounts:", "listeners: {imap: {address: '127.0.0.1:1', names: [a.example.com]}}\naccounts:", "6:13: listeners.imap: certificate, key and names are of no use without `tls: implicit` or `tls: starttls`"),
    (GOOD, "accounts:", "listeners: {imap: {address: '127.0.0.1:1', certificate: a, key: a}}\naccounts:", "6:13: listeners.imap: certificate, key and names are of no use without `tls: implicit` or `tls: starttls`"),
    (GOOD, "accounts:", "listeners: {imap: {address: '127.0.0.1:1', tls: implicit, names: [a], certificate: a, key: a}}\naccounts:", "6:13: listeners.imap: names are for the certificate that mail-bridge makes; your own certificate has its names already"),
    (GOOD, "accounts:", "listeners: {imap: {address: '127.0.0.1:1', proxy_protocol_from: [balancer]}}\naccounts:", "6:66: listeners.imap.proxy_protocol_from[0]: must be an IP address such as 10.0.0.5, or a network such as 10.0.0.0/24"),
    (GOOD, "accounts:", "listeners: {imap: {address: '127.0.0.1:1', proxy_protocol_from: [10.0.0.5/24]}}\naccounts:", "6:66: listeners.imap.proxy_protocol_from[0]: must be an IP address such as 10.0.0.5, or a network such as 10.0.0.0/24"),
    (GOOD, "accounts:", "console: 0.0.0.0:3017\naccounts:", "6:1: console: 0.0.0.0 can be reached from other machines, but the console is only for this one: use 127.0.0.1; from elsewhere, go there with `ssh -L 3017:localhost:3017`, or run `mail-bridge authorize ADDRESS --paste`"),
    (GOOD, "accounts:", "console: 0.0.0.0:4017\naccounts:", "6:1: console: 0.0.0.0 can be reached from other machines, but the console is only for this one: use 127.0.0.1; from elsewhere, go there with `ssh -L 4017:localhost:4017`, or run `mail-bridge authorize ADDRESS --paste`"),
    (GOOD, "accounts:", "console: {address: 'localhost:3017', tls: implicit}\naccounts:", "6:38: console.tls: unknown key; possible here: address"),
    (GOOD, "accounts:", "listeners: {imap: {adress: '127.0.0.1:1'}}\naccounts:", "6:20: listeners.imap.adress: unknown key (did you mean 'address'?)"),
    (GOOD, "accounts:", "listeners: {imap: '127.0.0.1:1110'}\naccounts:", "6:13: listeners.imap: '127.0.0.1:1110' is taken by listeners.pop3 by default; choose another port"),
    (GOOD, "accounts:", "listeners: {imap: 'localhost:3017'}\naccounts:", "6:13: listeners.imap: 'localhost:3017' is taken by console by default; choose another port"),
    (GOOD, "accounts:", "console: localhost:1143\naccounts:", "6:1: console: 'localhost:1143' is taken by listeners.imap by default; choose another port"),
    (GOOD, "accounts:", "listeners: {imap: ['127.0.0.1:1', 'localhost:1']}\naccounts:", "6:35: listeners.imap[1]: 'localhost:1' is taken by listeners.imap[0] (line 6); choose another port"),
    (MICROSOFT, "    tenant: contoso.com\n", "", "2:3: providers.office365: give `tenant`, or both URLs as the portal shows them (missing: authorization_url, token_url)"),
    (MICROSOFT, "tenant: contoso.com", "tenant: <tenant>", "5:5: providers.office365.tenant: '<tenant>' is not the GUID or the domain of a tenant"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso", "5:5: providers.office365.tenant: 'contoso' is not the GUID or the domain of a tenant"),
    (MICROSOFT, "tenant: contoso.com", "tenant: https://login.microsoftonline.com/contoso.com", "5:5: providers.office365.tenant: a URL belongs under `authorization_url` or `token_url`; the tenant is its GUID or its domain"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    " + URLS, "2:3: providers.office365: give either `tenant` or the two URLs, not both"),
    (MICROSOFT, "tenant: contoso.com", URLS.replace("/v2.0/token", "/token"), "6:5: providers.office365.token_url: this is a v1 endpoint; use the v2 one: https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"),
    (MICROSOFT, "tenant: contoso.com", URLS.replace("/v2.0/token", "/v2.0/authorize"), "6:5: providers.office365.token_url: this is the other endpoint; it must end in /oauth2/v2.0/token"),
    (MICROSOFT, "tenant: contoso.com", URLS.replace("contoso.com/oauth2/v2.0/t", "<tenant>/oauth2/v2.0/t"), "6:5: providers.office365.token_url: put your tenant's id in place of <tenant>"),
    (MICROSOFT, "tenant: contoso.com", URLS.replace("contoso.com/oauth2/v2.0/t", "other.com/oauth2/v2.0/t"), "2:3: providers.office365: authorization_url and token_url name different hosts or tenants"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    scopes: [Mail.Read]", "6:5: providers.office365.scopes: Mail.Read: a token is valid for one service only, and mail servers refuse one for another service; use only scopes such as https://outlook.office.com/IMAP.AccessAsUser.All"),
    (MICROSOFT, "kind: microsoft\n    client_id: 11111111-2222-3333-4444-555555555555\n    tenant: contoso.com", "kind: oauth2\n    client_id: id\n    authorization_url: https://a.b/\n    token_url: https://a.b/\n    scopes: [mail]\n    imap: {port: 993}", "2:3: providers.office365: no mail server: give `host` to at least one of imap, pop3 and smtp"),
    (GOOD, "client_secret: text", "client_secret: text\n    client_secret_expires: soon", "6:5: providers.gmail.client_secret_expires: must be a day such as 2027-01-31"),
    (GOOD, "client_secret: text", "client_secret: text\n    flow: devise", "6:5: providers.gmail.flow: must be browser, device, client_credentials or service_account, not 'devise' (did you mean 'device'?)"),
    (GOOD, "client_secret: text", "client_secret: text\n    flow: device", "2:3: providers.gmail: `flow` must be browser or service_account here: Google allows no other for mail"),
    (GOOD, "client_secret: text", "client_secret: text\n    service_account_file: key.json", "2:3: providers.gmail: remove `service_account_file`: it belongs to `flow: service_account`"),
    (GOOD, "    client_id: 1234.apps.googleusercontent.com\n    client_secret: text\n", "    flow: service_account\n", "2:3: providers.gmail.service_account_file: is missing"),
    (GOOD, "client_secret: text", "client_secret: text\n    flow: service_account\n    service_account_file: key.json", "2:3: providers.gmail: remove `client_id` and `client_secret`: a service account uses its key file instead"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    flow: device\n    client_secret: CANARY-s3cret", "2:3: providers.office365: remove `client_secret`: Microsoft lets only public clients use `flow: device`"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    flow: service_account", "2:3: providers.office365: `flow` must be browser, device or client_credentials here: only Google has service accounts"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    flow: client_credentials", "2:3: providers.office365: `flow: client_credentials` needs `client_secret` or `client_certificate`"),
    (MICROSOFT, "tenant: contoso.com", "tenant: common\n    flow: client_credentials\n    client_secret: CANARY-s3cret", "2:3: providers.office365: `flow: client_credentials` needs the tenant's own GUID or domain"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    flow: client_credentials\n    client_secret: CANARY-s3cret\n    scopes: [https://outlook.office.com/SMTP.Send]", "2:3: providers.office365: with `flow: client_credentials` the only scope is https://outlook.office365.com/.default"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    client_secret: CANARY-s3cret\n    client_certificate: a.pem", "2:3: providers.office365: give either `client_secret` or `client_certificate`, not both"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    client_certificate_key: a.pem", "2:3: providers.office365: remove `client_certificate_key`: it belongs to `client_certificate`"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    client_certificate: none.pem", "6:5: providers.office365.client_certificate: there is no file /nowhere/none.pem"),
    (MICROSOFT, "tenant: contoso.com", "tenant: contoso.com\n    cloud: us", "6:5: providers.office365.cloud: must be public, us-gov, us-dod or china, not 'us'"),
    (MICROSOFT, "kind: microsoft\n    client_id: 11111111-2222-3333-4444-555555555555\n    tenant: contoso.com", "kind: oauth2\n    client_id: id\n    preset: fastmial", "5:5: providers.office365.preset: must be aol, fastmail, yahoo or yandex, not 'fastmial' (did you mean 'fastmail'?)"),
    (MICROSOFT, "kind: microsoft\n    client_id: 11111111-2222-3333-4444-555555555555\n    tenant: contoso.com", "kind: oauth2\n    client_id: id\n    preset: fastmail\n    flow: device", "2:3: providers.office365.device_url: is missing"),
    (MICROSOFT, "kind: microsoft\n    client_id: 11111111-2222-3333-4444-555555555555\n    tenant: contoso.com", "kind: oauth2\n    client_id: id\n    preset: yandex\n    flow: client_credentials", "2:3: providers.office365.client_secret: is missing"),
    (MICROSOFT, "kind: microsoft\n    client_id: 11111111-2222-3333-4444-555555555555\n    tenant: contoso.com", "kind: oauth2\n    client_id: id\n    preset: yandex\n    sasl: plain", "6:5: providers.office365.sasl: must be xoauth2 or oauthbearer, not 'plain'"),
    (MICROSOFT, "kind: microsoft\n    client_id: 11111111-2222-3333-4444-555555555555\n    tenant: contoso.com", "kind: oauth2\n    client_id: id\n    token_url: https://a.b/\n    scopes: [mail]\n    imap: {host: a.b}", "2:3: providers.office365.authorization_url: is missing"),
]  # fmt: skip
