"""A Postfix of its own for one test: submission on two ports, OAuth tokens only, all mail goes to the test's Dovecot.

Dovecot checks these logins too (smtpd_sasl_type = dovecot), so one authorization server decides about all logins.
SMTPUTF8 is on, as on real servers. But Dovecot 2.3 takes no such mail by LMTP: a message with a non-ASCII address or
header field is accepted here, and then bounces.
"""

from __future__ import annotations

import grp
import os
import pwd
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.servers import daemons
from tests.servers.dovecot import Dovecot
from tests.servers.packages import needs, needs_root, program

USER: Final = "postfix"
DROP_GROUP: Final = "postdrop"

MAIN: Final = """\
compatibility_level = 3.6
queue_directory = {run}/queue
data_directory = {run}/data
mail_owner = {user}
setgid_group = {drop_group}
maillog_file = {log}
maillog_file_prefixes = {log_directory}

myhostname = mail.example.com
mydomain = example.com
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks =
smtpd_banner = $myhostname ESMTP {word}

# No question to a name server: the tests have none, and must not wait for one.
smtp_dns_support_level = disabled
lmtp_dns_support_level = disabled
smtp_host_lookup = native
lmtp_host_lookup = native
smtpd_peername_lookup = no

smtpd_tls_chain_files = {key}, {certificate}
smtpd_tls_auth_only = yes
smtpd_tls_security_level = encrypt
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{auth}
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_sasl_authenticated, reject

# Wherever a message wants to go, it goes to Dovecot, byte for byte.
default_transport = lmtp:inet:127.0.0.1:{lmtp}
lmtp_line_length_limit = 0
# A command with a whole token in it is longer than the usual 2048 bytes (RFC 4954 asks for 12288).
line_length_limit = 16384
smtpd_sasl_response_limit = 16384
message_size_limit = 104857600
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
default_process_limit = 200
# A test may kill an smtpd before it has served anybody; Postfix would start the next one after a minute.
service_throttle_time = 1s
in_flow_delay = 0
queue_minfree = 0
# A recipient that Dovecot does not know shall be in the log at once, not tried again for days.
maximal_queue_lifetime = 0
bounce_queue_lifetime = 0
"""

MASTER: Final = """\
127.0.0.1:{submission} inet n - n - - smtpd
127.0.0.1:{smtps} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

# The directories that `postfix start` would create in the queue; it also checks every installed file, which is slow.
QUEUES: Final = ("incoming", "active", "deferred", "defer", "bounce", "corrupt", "flush", "hold", "saved", "trace")


@dataclass(frozen=True, slots=True)
class Postfix:
    """Where the running server listens on loopback. The certificate must be good for `host`."""

    submission: int  # STARTTLS
    smtps: int  # implicit TLS
    log_file: Path
    daemon: daemons.Daemon = field(repr=False)
    host: str = "localhost"

    def log(self) -> str:
        """All that the server wrote so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def kill(self) -> None:
        """End all processes without a good-bye, as a crash of the machine does."""
        self.daemon.kill()


@contextmanager
def postfix(directory: Path, certificate: Path, key: Path, dovecot: Dovecot) -> Iterator[Postfix]:
    """Run a server in front of `dovecot`; its configuration and log are in `directory`, all else goes when it ends."""
    needs("postfix")
    needs_root()
    directory.mkdir(parents=True, exist_ok=True)
    with daemons.short_directory("postfix-") as run:
        _make_queue(run)
        server = daemons.attempts(lambda: _start(directory, run, certificate, key, dovecot))
        try:
            yield server
        finally:
            server.daemon.stop()


def _start(directory: Path, run: Path, certificate: Path, key: Path, dovecot: Dovecot) -> Postfix:
    """Write the configuration for new ports, and start."""
    log_file = directory / "postfix.log"
    log_file.unlink(missing_ok=True)  # it may hold the "address already in use" of an earlier attempt
    submission, smtps = daemons.free_ports(2)
    word = secrets.token_hex(8)
    configuration = directory / "postfix"
    configuration.mkdir(exist_ok=True)
    (configuration / "main.cf").write_text(
        MAIN.format(
            run=run,
            user=USER,
            drop_group=DROP_GROUP,
            log=log_file,
            log_directory=directory,
            word=word,
            key=key.absolute(),
            certificate=certificate.absolute(),
            auth=dovecot.auth,
            lmtp=dovecot.lmtp,
        )
    )
    (configuration / "master.cf").write_text(MASTER.format(submission=submission, smtps=smtps))
    for file in configuration.iterdir():
        os.utime(file, (0, 0))  # Postfix waits up to two seconds for a file that somebody may still be writing
    # `master` itself, not the `postfix` command, which runs shell scripts for seconds. With -d, `master` stays in the
    # process group in which it was started, so that no process can be lost.
    master = program("/usr/lib/postfix/sbin/master") or Path("/usr/lib/postfix/sbin/master")
    daemon = daemons.Daemon([master, "-c", configuration, "-d"], directory)
    server = Postfix(submission=submission, smtps=smtps, log_file=log_file, daemon=daemon)
    # Postfix opens all ports before it serves any of them, so its banner on one port proves that both are open.
    daemon.wait_until(lambda: word.encode() in daemons.greeting(submission), server.log)
    return server


def _make_queue(run: Path) -> None:
    """Make the directories that Postfix needs, with the owners that it insists on."""
    user, drop_group = pwd.getpwnam(USER), grp.getgrnam(DROP_GROUP).gr_gid
    queue = run / "queue"
    queue.mkdir(mode=0o755)
    (queue / "pid").mkdir(mode=0o755)
    owned = {run / "data": (user.pw_gid, 0o700), queue / "private": (user.pw_gid, 0o700)}
    owned |= {queue / name: (user.pw_gid, 0o700) for name in QUEUES}
    owned |= {queue / "public": (drop_group, 0o710), queue / "maildrop": (drop_group, 0o730)}
    for path, (group, mode) in owned.items():
        path.mkdir()
        path.chmod(mode)
        os.chown(path, user.pw_uid, group)
