"""The mail libraries that CRMs use: .NET's SmtpClient (Mono's), and JavaMail."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from tests.e2e.both_ways import must_sign_in, port, serving_both_ways
from tests.e2e.bridge import Bridge
from tests.e2e.clients import PROTOCOLS, run
from tests.e2e.conftest import ALICE, BOB, CAROL, World
from tests.e2e.mailing import found_by_imap
from tests.servers.packages import needs

pytestmark = pytest.mark.servers

JARS = ("bsh", "javax.mail", "javax.activation")

DOTNET = r"""
using System; using System.IO; using System.Net; using System.Net.Mail; using System.Text;
class Crm {
  static void Main(string[] told) {
    var client = new SmtpClient("localhost", int.Parse(told[0])) { Timeout = 30000, UseDefaultCredentials = false };
    client.Credentials = new NetworkCredential(told[1], Console.In.ReadLine());
    for (int number = 0; number < 2; number++) {
      var mail = new MailMessage(told[1], told[1]) { Subject = told[2] + number, Body = ".a dot\r\n.\r\nété" };
      mail.Attachments.Add(new Attachment(new MemoryStream(Encoding.UTF8.GetBytes("à;b\n")), "prix é.csv", "text/csv"));
      try { client.Send(mail); Console.WriteLine("sent"); }
      catch (SmtpException problem) { Console.WriteLine((int) problem.StatusCode + " " + problem.Message); }
    }
  }
}
"""

JAVA = r"""
import javax.mail.*; import javax.mail.internet.*;
String[] told = bsh.args;
String user = told[3], word = new BufferedReader(new InputStreamReader(System.in)).readLine();
Properties set = new Properties();
for (String[] one : new String[][] {{"imap", told[0]}, {"pop3", told[1]}, {"smtp", told[2]}}) {
  String at = "mail." + one[0];
  set.put(at + ".host", "localhost"); set.put(at + ".port", one[1]); set.put(at + ".timeout", "30000");
  set.put(at + ".starttls.enable", "true"); set.put(at + ".starttls.required", told[4]);
  set.put(at + ".ssl.checkserveridentity", "true"); set.put(at + ".auth", "true");
}
Session session = Session.getInstance(set);
Service entered(Service it) {
  try { it.connect(user, word); return it; }
  catch (AuthenticationFailedException problem) { print(problem.getMessage().trim()); return null; }
}
Service store = entered(session.getStore("imap")), post = entered(session.getTransport("smtp"));
if (store == null) entered(session.getStore("pop3"));
else {
  Folder inbox = store.getFolder("INBOX");
  inbox.open(Folder.READ_WRITE);
  int before = inbox.getMessageCount();
  MimeMessage mail = new MimeMessage(session);
  mail.setFrom(new InternetAddress(user));
  mail.setRecipients(Message.RecipientType.TO, user);
  mail.setSubject(told[5], "utf-8"); mail.setText(".a dot\r\n.\r\nété", "utf-8");
  mail.saveChanges();
  for (int number = 0; number < 2; number++) post.sendMessage(mail, mail.getAllRecipients());
  do inbox.idle(true); while (inbox.getMessageCount() < before + 2);
  print(inbox.getMessage(before + 2).getSubject());
  Folder other = store.getFolder("Prix é " + told[4]);
  other.create(Folder.HOLDS_MESSAGES);
  inbox.copyMessages(inbox.getMessages(before + 1, before + 2), other);
  other.open(Folder.READ_ONLY);
  print(other.getMessageCount());
  Service box = entered(session.getStore("pop3"));
  Folder popped = box.getFolder("INBOX");
  popped.open(Folder.READ_ONLY);
  print(popped.getMessage(before + 2).getContent().trim().endsWith("été"));
  for (Object it : new Object[] {popped, other, inbox}) it.close(false);
  for (Service it : new Service[] {store, box, post}) it.close();
}
"""


@pytest.fixture(scope="module")
def bridge(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with serving_both_ways(world, tmp_path_factory.mktemp("libraries")) as bridge:
        yield bridge


# --- .NET ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dotnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("mono-mcs", "mono-runtime")
    source = tmp_path_factory.mktemp("dotnet") / "crm.cs"
    source.write_text(DOTNET)
    program = source.with_suffix(".exe")
    run(["mcs", "-nowarn:618", f"-out:{program}", str(source)])
    return program


def sent_by_dotnet(
    program: Path, bridge: Bridge, address: str, subject: str, password: str, which: int = 0
) -> list[str]:
    """What the program prints about two messages, sent by one SmtpClient."""
    command = ["mono", str(program), port(bridge, "smtp", which), address, subject]
    return run(command, stdin=f"{password}\n".encode()).decode().splitlines()


@pytest.mark.parametrize("address", [ALICE, BOB])
def test_dotnet_sends_what_is_read(bridge: Bridge, dotnet: Path, address: str) -> None:
    subject = f"from .NET by {address} "
    assert sent_by_dotnet(dotnet, bridge, address, subject, bridge.password(address)) == ["sent"] * 2
    for number in range(2):
        read = message_from_bytes(found_by_imap(bridge.login(address), f"{subject}{number}"), policy=default)
        body, sheet = read.iter_parts()
        assert body.get_content().split() == [".a", "dot", ".", "été"]
        assert (sheet.get_filename(), sheet.get_payload(decode=True)) == ("prix é.csv", "à;b\n".encode())


def test_dotnet_says_who_must_sign_in_and_where(bridge: Bridge, dotnet: Path) -> None:
    """The code is 454, on which no program takes its password for wrong."""
    said = sent_by_dotnet(dotnet, bridge, CAROL, "never", bridge.password(CAROL))
    assert said == [f"454 454 4.7.0 {must_sign_in(bridge)}"] * 2


def test_dotnet_says_that_a_password_is_wrong(bridge: Bridge, dotnet: Path) -> None:
    said = sent_by_dotnet(dotnet, bridge, ALICE, "never", "another")
    assert len(said) == 2
    assert all(line.startswith("535 535 5.7.8 User name or local password is wrong.") for line in said), said


def test_dotnet_without_its_enablessl_is_told_of_in_the_log(bridge: Bridge, dotnet: Path) -> None:
    said = sent_by_dotnet(dotnet, bridge, ALICE, "never", bridge.password(ALICE), which=1)
    assert said == ["530 530 5.7.0 Must issue a STARTTLS command first"] * 2
    bridge.wait_for_log("is STARTTLS switched on in the mail program?")


# --- Java ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def java(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command. It trusts only what an administrator imports with keytool."""
    needs("default-jre-headless", "libmail-java", "bsh")
    directory = tmp_path_factory.mktemp("java")
    script, authority, trusted = directory / "crm.bsh", directory / "authority.crt", directory / "trusted"
    script.write_text(JAVA)
    bridge.run("certificate", "--export", str(authority))
    keytool = ["keytool", "-importcert", "-noprompt", "-keystore", str(trusted), "-storepass", "changeit"]
    run([*keytool, "-alias", "mail-bridge", "-file", str(authority)])
    jars = ":".join(f"/usr/share/java/{jar}.jar" for jar in JARS)
    trust = [f"-Djavax.net.ssl.trustStore={trusted}", "-Djavax.net.ssl.trustStorePassword=changeit"]
    encoding = ["-Dfile.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8"]
    return ["java", *trust, *encoding, "-cp", jars, "bsh.Interpreter", str(script)]


def done_by_java(java: list[str], bridge: Bridge, address: str, is_tls: bool, subject: str, password: str) -> list[str]:
    command = [
        *java,
        *(port(bridge, protocol, int(is_tls)) for protocol in PROTOCOLS),
        address,
        str(is_tls).lower(),
        subject,
    ]
    return run(command, stdin=f"{password}\n".encode()).decode().splitlines()


@pytest.mark.parametrize("is_tls", [False, True])
def test_java_sends_waits_for_it_with_idle_and_reads(bridge: Bridge, java: list[str], is_tls: bool) -> None:
    """It opens several folders and uses IDLE, which it looks for in the capabilities after the login."""
    done = done_by_java(java, bridge, BOB, is_tls, f"from Java {is_tls}", bridge.password(BOB))
    assert done == [f"from Java {is_tls}", "2", "true"]


@pytest.mark.parametrize("is_tls", [False, True])
def test_java_says_who_must_sign_in_and_where(bridge: Bridge, java: list[str], is_tls: bool) -> None:
    said = done_by_java(java, bridge, CAROL, is_tls, "never", bridge.password(CAROL))
    codes = ("[UNAVAILABLE]", "454 4.7.0", "[SYS/TEMP]")
    assert said == [f"{code} {must_sign_in(bridge)}" for code in codes]
