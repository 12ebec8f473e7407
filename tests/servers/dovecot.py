"""A Dovecot of its own for one test: IMAP and POP3 that take OAuth tokens only, as Gmail and Office 365 do.

A token is checked with the authorization server of the test (RFC 7662 introspection). Mail arrives through LMTP, from
Postfix or from `Dovecot.deliver`.
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import re
import secrets
import smtplib
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.servers import daemons
from tests.servers.packages import needs, program

# Mail is read and written with the rights of this user, because Dovecot refuses to do it as root.
MAIL_USER: Final = "nobody"

CONFIGURATION: Final = """\
{dialect}
base_dir = {run}/base
state_dir = {run}/state
instance_name = {name}
log_path = {log}
log_timestamp = "%Y-%m-%d %H:%M:%S.%{{usecs}} "
login_greeting = {greeting}
listen = 127.0.0.1
hostname = localhost
postmaster_address = postmaster@example.com
stats_writer_socket_path =

# A connection from the server's own address counts as safe, so tokens are taken before TLS too. Real servers refuse.
ssl = required

# OAuth only. A wrong token is answered soon: half a second is the least that Dovecot lets pass.
auth_mechanisms = xoauth2 oauthbearer
auth_failure_delay = 0
auth_verbose = yes

mail_fsync = never
mail_temp_dir = {run}/temporary
mail_max_userip_connections = 1000
lda_mailbox_autocreate = yes
# Reading by POP3 leaves no mark that a look by IMAP would see.
pop3_no_flag_updates = yes

{users_of_the_server}
default_process_limit = 1000
default_client_limit = 4000

service anvil {{
  # Without its socket, login processes know no waiting time for an address that failed before.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  inet_listener sasl {{
    port = {auth}
  }}
}}
# One login process for all connections, kept ready: the first login of a test is as fast as the others.
service imap-login {{
  {clients_without_end}
  process_min_avail = 1
  inet_listener imap {{
    port = {imap_starttls}
  }}
  inet_listener imaps {{
    port = {imap_tls}
    ssl = yes
  }}
}}
service pop3-login {{
  {clients_without_end}
  process_min_avail = 1
  inet_listener pop3 {{
    port = {pop3_starttls}
  }}
  inet_listener pop3s {{
    port = {pop3_tls}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
"""

# The settings whose syntax differs between versions: the certificate's files, the mailboxes, and the authentication.
DIALECT_2_3: Final = """\
protocols = imap pop3 lmtp
ssl_cert = <{certificate}
ssl_key = <{key}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {oauth}
}}
userdb {{
  driver = passwd-file
  args = username_format=%Lu {users}
}}
mail_location = maildir:~/Maildir
pop3_uidl_format = %08Xu%08Xv
"""
DIALECT_2_4: Final = """\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols = imap pop3 lmtp
ssl_server_cert_file = {certificate}
ssl_server_key_file = {key}
oauth2 {{
  !include {oauth}
}}
passdb oauth2 {{
  mechanisms_filter = xoauth2 oauthbearer
}}
userdb passwd-file {{
  auth_username_format = %{{user | lower}}
  passwd_file_path = {users}
}}
mail_driver = maildir
mail_path = ~/Maildir
"""

# POST keeps the token out of the request line. Dovecot calls a token invalid unless `active` has this value.
OAUTH: Final = """\
introspection_mode = post
introspection_url = {url}
active_attribute = active
active_value = true
username_attribute = username
"""

# Without root everything runs as one user, and no process can chroot.
UNPRIVILEGED: Final = """\
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
}}
service pop3-login {{
  chroot =
}}
"""


@dataclass(frozen=True, slots=True)
class Dovecot:
    """Where the running server listens. All ports are on loopback, and the certificate must be good for `host`."""

    imap_tls: int
    imap_starttls: int
    pop3_tls: int
    pop3_starttls: int
    lmtp: int
    auth: int  # speaks Dovecot's authentication protocol, for Postfix
    log_file: Path
    daemon: daemons.Daemon = field(repr=False)
    host: str = "localhost"

    def log(self) -> str:
        """All that the server wrote so far."""
        return _text(self.log_file)

    def deliver(self, address: str, message: bytes) -> None:
        """Put a message into the inbox of `address`; it is there when the call returns."""
        with smtplib.LMTP("127.0.0.1", self.lmtp, timeout=60) as client:
            refused = client.sendmail("sender@example.com", [address], message)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)

    def kill(self) -> None:
        """End all processes without a good-bye, as a crash of the machine does."""
        self.daemon.kill()


@contextmanager
def dovecot(
    directory: Path, certificate: Path, key: Path, introspection_url: str, users: Sequence[str]
) -> Iterator[Dovecot]:
    """Run a server with these mailboxes; its configuration and log are in `directory`, all else goes when it ends."""
    needs("dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-lmtpd")
    directory.mkdir(parents=True, exist_ok=True)
    with daemons.short_directory("dovecot-") as run:
        _make_mailboxes(run, users)
        server = daemons.attempts(lambda: _start(directory, run, certificate, key, introspection_url))
        try:
            yield server
        finally:
            server.daemon.kill()  # a regular stop takes a second longer, and nobody reads this mail again


def _start(directory: Path, run: Path, certificate: Path, key: Path, introspection_url: str) -> Dovecot:
    """Write the configuration for new ports, and start."""
    log_file, oauth = directory / "dovecot.log", run / "oauth.conf.ext"
    log_file.unlink(missing_ok=True)  # it may hold the "address already in use" of an earlier attempt
    is_old = version() < (2, 4)
    # Dovecot expands % in some settings; no URL of the tests contains one.
    oauth.write_text(OAUTH.format(url=introspection_url) + "timeout_msecs = 10000\n" * is_old)
    word = secrets.token_hex(8)
    imap_tls, imap_starttls, pop3_tls, pop3_starttls, lmtp, auth = daemons.free_ports(6)
    configuration = directory / "dovecot.conf"
    configuration.write_text(
        CONFIGURATION.format(
            run=run,
            name=run.name,
            log=log_file,
            greeting=f"Dovecot {word} ready.",
            dialect=(DIALECT_2_3 if is_old else DIALECT_2_4).format(
                certificate=certificate.absolute(), key=key.absolute(), oauth=oauth, users=run / "users"
            ),
            clients_without_end="service_count = 0" if is_old else "restart_request_count = unlimited",
            users_of_the_server=_users_of_the_server(),
            imap_tls=imap_tls,
            imap_starttls=imap_starttls,
            pop3_tls=pop3_tls,
            pop3_starttls=pop3_starttls,
            lmtp=lmtp,
            auth=auth,
        )
    )
    daemon = daemons.Daemon([program("dovecot") or "dovecot", "-F", "-c", configuration], directory)
    server = Dovecot(imap_tls, imap_starttls, pop3_tls, pop3_starttls, lmtp, auth, log_file, daemon)
    # Dovecot opens all ports before it serves any of them, so its greeting on one port proves that all are open.
    daemon.wait_until(lambda: word.encode() in daemons.greeting(server.imap_starttls), server.log)
    return server


@functools.cache
def version() -> tuple[int, ...]:
    """The version, such as (2, 3, 19). Debian 12 has 2.3, Debian 13 has 2.4."""
    command = [str(program("dovecot") or "dovecot"), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", said.split()[0])))


def _users_of_the_server() -> str:
    if os.geteuid() == 0:
        return ""
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    return UNPRIVILEGED.format(user=user, group=group)


def _make_mailboxes(run: Path, users: Sequence[str]) -> None:
    """Make a home for each user, and the passwd file that lists them for Dovecot."""
    owner = pwd.getpwnam(MAIL_USER) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    lines = []
    for path in (run / "mail", run / "temporary"):
        path.mkdir(mode=0o700)
        os.chown(path, owner.pw_uid, owner.pw_gid)
    for user in users:
        if set(user) & set(":/\n"):  # these would end a field of the file, or lead out of the directory
            raise ValueError(f"not a mailbox name: {user!r}")
        home = run / "mail" / user.lower()
        home.mkdir(mode=0o700)
        os.chown(home, owner.pw_uid, owner.pw_gid)
        lines.append(f"{user.lower()}::{owner.pw_uid}:{owner.pw_gid}::{home}::\n")
    (run / "users").write_text("".join(lines))


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
