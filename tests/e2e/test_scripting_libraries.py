"""What scripts and web programs use: s-nail (`mailx` in Debian), Perl's Mail::IMAPClient, PHP's Symfony Mailer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.both_ways import must_sign_in, port, serving_both_ways
from tests.e2e.bridge import Bridge
from tests.e2e.clients import run
from tests.e2e.conftest import ALICE, BOB, CAROL, World
from tests.e2e.mailing import found_by_imap
from tests.e2e.messages import awkward
from tests.servers.packages import needs

pytestmark = pytest.mark.servers

WRONG = "User name or local password is wrong."

PERL = r"""
use strict; use warnings; use Mail::IMAPClient;
my ($port, $user, $authority, $mechanism, $subject) = @ARGV;
chomp(my $password = <STDIN>);
my $imap = Mail::IMAPClient->new(
  Server => 'localhost', Port => $port, User => $user, Password => $password, Uid => 1, Timeout => 30,
  Authmechanism => $mechanism || undef, $authority ? (Starttls => [SSL_ca_file => $authority]) : (),
) or print($@), exit;
$imap->select('INBOX');
my $idle = $imap->idle or die $imap->LastError;
$imap->done($idle);
my $uid = $imap->append_string('INBOX', "Subject: $subject\r\n\r\n" . ('y' x 76 . "\r\n") x 30000);
my @found = $imap->search('SUBJECT', \$imap->Quote($subject));
print "@found" eq $uid, ' ', length $imap->body_string($uid);
$imap->logout;
"""

PHP = r"""<?php
error_reporting(E_ALL & ~E_DEPRECATED);
require 'Symfony/Component/Mailer/autoload.php';
require 'Symfony/Component/Mime/autoload.php';
use Symfony\Component\Mailer\Transport;
use Symfony\Component\Mime\Email;
[$port, $user, $password, $subject] = json_decode(stream_get_contents(STDIN));
$who = urlencode($user) . ':' . urlencode($password);
$transport = Transport::fromDsn("smtp://$who@localhost:$port?verify_peer=0");
try {
  foreach ([0, 1] as $number) {
    $mail = (new Email())->from($user)->to($user)->subject($subject . $number)->text(".a dot\r\n.\r\nété");
    $transport->send($mail);
  }
  echo 'sent';
} catch (Exception $problem) {
  echo $problem->getMessage();
}
"""


@pytest.fixture(scope="module")
def bridge(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with serving_both_ways(world, tmp_path_factory.mktemp("scripting")) as bridge:
        yield bridge


# --- s-nail -------------------------------------------------------------------------------------------------------


def s_nail(bridge: Bridge, protocol: str, address: str, password: str, *more: str, stdin: str, fails: bool) -> str:
    """Without its user's and the system's settings; a mail server is a URL with the credentials in it."""
    needs("s-nail")
    where = f"{protocol}://{quote(address, safe='')}:{password}@localhost:{port(bridge, protocol, 0)}"
    options = ["-S", f"mta={where}", "-S", f"from={address}"] if protocol == "smtp" else ["-R", "-#", "-f", where]
    command = ["s-nail", "-:/", "-S", "v15-compat", "-S", "sendwait", *options, *more]
    return run(command, stdin=stdin.encode(), expect_failure=fails).decode()


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
@pytest.mark.parametrize("address", [ALICE, BOB])
def test_s_nail_reads_what_it_has_sent(bridge: Bridge, address: str, protocol: str) -> None:
    subject, password = f"s-nail {protocol}", bridge.password(address)
    s_nail(bridge, "smtp", address, password, "-s", subject, address, stdin=".a dot\n", fails=False)
    found_by_imap(bridge.login(address), subject)
    assert subject in s_nail(bridge, protocol, address, password, stdin="from $\n", fails=False)


@pytest.mark.parametrize("protocol", ["imap", "smtp"])
def test_s_nail_says_who_must_sign_in_and_where(bridge: Bridge, protocol: str) -> None:
    """By POP3, too, but it then ends as if all were well."""
    more = ["-s", "never", CAROL] if protocol == "smtp" else []
    said = s_nail(bridge, protocol, CAROL, bridge.password(CAROL), *more, stdin="x\n", fails=True)
    assert must_sign_in(bridge) in said


# --- Perl ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("perl") / "authority.crt"
    bridge.run("certificate", "--export", str(file))
    return file


def done_by_perl(bridge: Bridge, address: str, password: str, certificate: Path | None, mechanism: str = "") -> str:
    needs("libmail-imapclient-perl", "libio-socket-ssl-perl")
    where = [port(bridge, "imap", int(certificate is not None)), address, str(certificate or "")]
    command = ["perl", "-e", PERL, *where, mechanism, f"from Perl {mechanism or 'by default'}"]
    return run(command, stdin=f"{password}\n".encode()).decode()


@pytest.mark.parametrize("mechanism", ["", "PLAIN", "LOGIN"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_perl_waits_with_idle_appends_and_searches(
    bridge: Bridge, world: World, certificate: Path, is_tls: bool, mechanism: str
) -> None:
    """The message has 2.3 MB; IDLE, literals and UIDPLUS are what it looks for in the capabilities."""
    address = BOB if is_tls else ALICE
    world.dovecot.deliver(address, awkward("for Perl"))
    done = done_by_perl(bridge, address, bridge.password(address), certificate if is_tls else None, mechanism)
    assert done == f"1 {30000 * 78}"


@pytest.mark.parametrize("mechanism", ["", "PLAIN", "LOGIN"])
def test_perl_says_who_must_sign_in_and_where(bridge: Bridge, mechanism: str) -> None:
    assert must_sign_in(bridge) in done_by_perl(bridge, CAROL, bridge.password(CAROL), None, mechanism)


# --- PHP ----------------------------------------------------------------------------------------------------------


def sent_by_symfony(bridge: Bridge, address: str, password: str, subject: str, which: int) -> str:
    needs("php-cli", "php-symfony-mailer")
    told = json.dumps([int(port(bridge, "smtp", which)), address, password, subject])
    return run(["php", "-r", PHP.removeprefix("<?php")], stdin=told.encode()).decode()


@pytest.mark.parametrize("address", [ALICE, BOB])
@pytest.mark.parametrize("which", [0, 1])
def test_symfony_sends_twice_over_one_connection(bridge: Bridge, address: str, which: int) -> None:
    """With STARTTLS wherever it is offered."""
    subject = f"from Symfony {which} "
    assert sent_by_symfony(bridge, address, bridge.password(address), subject, which) == "sent"
    for number in range(2):
        assert b".a dot\r\n.\r\n" in found_by_imap(bridge.login(address), f"{subject}{number}")


@pytest.mark.parametrize("which", [0, 1])
def test_symfony_tries_each_mechanism_and_shows_what_each_was_told(bridge: Bridge, which: int) -> None:
    refused = sent_by_symfony(bridge, ALICE, "another", "never", which)
    assert refused.count(f"535 5.7.8 {WRONG}") == 2
    asked = sent_by_symfony(bridge, CAROL, bridge.password(CAROL), "never", which)
    assert asked.count(f"454 4.7.0 {must_sign_in(bridge)}") == 2
