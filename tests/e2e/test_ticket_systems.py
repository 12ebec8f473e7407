"""What ticket systems use: Ruby's own libraries (Redmine, Zammad, OpenProject), and Perl's (Znuny)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.both_ways import must_sign_in, port, serving_both_ways
from tests.e2e.bridge import Bridge
from tests.e2e.clients import PROTOCOLS, run
from tests.e2e.conftest import ALICE, BOB, CAROL, World
from tests.e2e.mailing import found_by_imap
from tests.servers.packages import needs

pytestmark = pytest.mark.servers

CHOSEN = 'CANARY "Sesame\\" 10 %'
"""With what has to be escaped or quoted somewhere."""

WRONG = "User name or local password is wrong."

RUBY = r"""
require 'json'; require 'net/imap'; require 'net/pop'; require 'net/smtp'
$stdout.sync = true
told = JSON.parse($stdin.read)
user, word, subject, how, authority = told.values_at('user', 'password', 'subject', 'how', 'authority')
def shown
  yield
rescue Net::IMAP::NoResponseError, Net::ProtoAuthError, Net::SMTPAuthenticationError => problem
  puts problem.message
end
imap = Net::IMAP.new('localhost', port: told['imap'])
imap.starttls(ca_file: authority) if authority
smtp = Net::SMTP.new('localhost', told['smtp'])
trust = OpenSSL::SSL::SSLContext.new
trust.set_params(ca_file: authority) if authority
authority ? smtp.enable_starttls(trust) : smtp.disable_starttls
shown do
  how == 'LOGIN' ? imap.login(user, word) : imap.authenticate('PLAIN', user, word)
  imap.select('INBOX')
  messages = imap.responses['EXISTS'][-1] + 2
  imap.idle do |said|
    case said
    when Net::IMAP::ContinuationRequest  # it waits now: what was sent before that may be told before that, too
      smtp.start('crm.example', user, word, how.downcase.to_sym) do |post|
        2.times { |number| post.send_message("Subject: #{subject}#{number}\r\n\r\n.a dot\r\n", user, user) }
      end
    when Net::IMAP::UntaggedResponse
      imap.idle_done if said.name == 'EXISTS' && said.data >= messages
    end
  end
  imap.append('INBOX', "Subject: big\r\n\r\n" + ('y' * 76 + "\r\n") * 30000)
  big = imap.uid_search(['SUBJECT', 'big'])
  puts imap.uid_fetch(big, 'BODY.PEEK[TEXT]')[0].attr['BODY[TEXT]'].size
  imap.uid_store(big, '+FLAGS', [:Deleted])
  imap.expunge
  puts imap.uid_search(['SUBJECT', 'big']).size
end
shown { smtp.start('crm.example', user, word, how.downcase.to_sym) { puts 'SMTP' } }
shown { Net::POP3.start('localhost', told['pop3'], user, word) { puts 'POP3' } } unless authority
"""
"""Ruby's Net::POP3 has no STLS."""

PERL = r"""
use strict; use warnings; use JSON::PP; use Net::SMTP; use Net::POP3;
my $told = decode_json(join '', <STDIN>);
my ($user, $word, $subject, $authority) = @$told{qw(user password subject authority)};
my $smtp = Net::SMTP->new('localhost', Port => $told->{smtp}, Hello => 'crm.example') or die $@;
my $pop = Net::POP3->new('localhost', Port => $told->{pop3}) or die $@;
for my $session ($smtp, $pop) {
  !$authority or $session->starttls(SSL_ca_file => $authority) or die $session->message;
}
if ($smtp->auth($user, $word)) {
  for my $number (0, 1) {
    $smtp->mail($user) and $smtp->to($user) and $smtp->data("Subject: $subject$number\r\n\r\n.a dot\r\n")
      or die $smtp->message;
  }
} else { print $smtp->code, ' ', $smtp->message }
print defined $pop->login($user, $word) ? "POP3\n" : $pop->message;
$smtp->quit; $pop->quit;
"""


@pytest.fixture(scope="module")
def bridge(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Bob has chosen his local password."""
    with serving_both_ways(world, tmp_path_factory.mktemp("tickets")) as bridge:
        bridge.run("accounts", "password", BOB, "--set-from-stdin", stdin=CHOSEN)
        yield bridge


@pytest.fixture(scope="module")
def certificate(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("authority") / "authority.crt"
    bridge.run("certificate", "--export", str(file))
    return file


def said_by(
    command: list[str],
    bridge: Bridge,
    certificate: Path | None,
    address: str,
    password: str,
    subject: str,
    how: str = "",
) -> list[str]:
    """What the script prints. Args: certificate, None for the ports without TLS; how, the mechanism."""
    told: dict[str, object] = {"user": address, "password": password, "subject": subject, "how": how}
    told |= {"authority": None if certificate is None else str(certificate)}
    told |= {protocol: int(port(bridge, protocol, int(certificate is not None))) for protocol in PROTOCOLS}
    return run(command, stdin=json.dumps(told).encode()).decode().splitlines()


@pytest.fixture(scope="module")
def ruby() -> list[str]:
    needs("ruby")
    return ["ruby", "-e", RUBY]


@pytest.fixture(scope="module")
def perl() -> list[str]:
    needs("perl", "libauthen-sasl-perl", "libio-socket-ssl-perl")
    return ["perl", "-e", PERL]


# --- Ruby ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_ruby_sends_waits_for_it_with_idle_and_deletes(
    bridge: Bridge, certificate: Path, ruby: list[str], is_tls: bool, how: str
) -> None:
    """The message that it appends and reads has 2.3 MB."""
    trusted, subject = certificate if is_tls else None, f"from Ruby {is_tls} {how} "
    done = said_by(ruby, bridge, trusted, BOB, CHOSEN, subject, how)
    assert done == [str(30000 * 78), "0", "SMTP", *([] if is_tls else ["POP3"])]
    assert b"\r\n.a dot\r\n" in found_by_imap(bridge.login(BOB, CHOSEN), subject)


@pytest.mark.parametrize("how", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_ruby_says_who_must_sign_in_and_where(
    bridge: Bridge, certificate: Path, ruby: list[str], is_tls: bool, how: str
) -> None:
    said = said_by(ruby, bridge, certificate if is_tls else None, CAROL, bridge.password(CAROL), "never", how)
    told = must_sign_in(bridge)
    assert said == [told, f"454 4.7.0 {told}", *([] if is_tls else [f"-ERR [SYS/TEMP] {told}"])]


def test_ruby_says_that_a_password_is_wrong(bridge: Bridge, ruby: list[str]) -> None:
    said = said_by(ruby, bridge, None, ALICE, "another", "never", "LOGIN")
    assert [line.partition(WRONG)[:2] for line in said] == [("", WRONG), ("535 5.7.8 ", WRONG), ("-ERR [AUTH] ", WRONG)]


# --- Perl ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [ALICE, BOB])
@pytest.mark.parametrize("is_tls", [False, True])
def test_perl_sends_twice_and_finds_it(
    bridge: Bridge, certificate: Path, perl: list[str], is_tls: bool, address: str
) -> None:
    password, subject = CHOSEN if address == BOB else bridge.password(address), f"from Net::SMTP {is_tls} "
    assert said_by(perl, bridge, certificate if is_tls else None, address, password, subject) == ["POP3"]
    for number in range(2):
        assert b"\r\n.a dot\r\n" in found_by_imap(bridge.login(address, password), f"{subject}{number}")


@pytest.mark.parametrize("is_tls", [False, True])
def test_perl_says_who_must_sign_in_and_where(bridge: Bridge, certificate: Path, perl: list[str], is_tls: bool) -> None:
    said = said_by(perl, bridge, certificate if is_tls else None, CAROL, bridge.password(CAROL), "never")
    assert said == [f"454 4.7.0 {must_sign_in(bridge)}", f"[SYS/TEMP] {must_sign_in(bridge)}"]
