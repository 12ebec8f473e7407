"""Plays the dialogues of tests/transcripts: as a whole, byte by byte, and cut at random.

Comment lines of a file name the machine: `# machine: imap server` or `# machine: imap client`, either with `starttls`;
a server with `tls` has TLS from the start, and with `promises=IDLE,MOVE` it names those before the login; a client
with `oauthbearer` sends its token by that mechanism, otherwise by XOAUTH2.
`C:` is what the mail client (or we, towards an upstream) says, `S:` the server; each ends in CRLF, `C~`/`S~` do not.
Escapes are Python's. The machine must send the lines of its own side, and is fed those of the other side. Besides,
`=> …` is a fact that the machine must report, and `<= …` a decision that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge import errors
from bridge.model import Mechanism, Protocol
from bridge.protocols.base import (
    ClientMachine,
    Credentials,
    Event,
    Hangup,
    LoginRequested,
    Ready,
    Refused,
    Send,
    ServerMachine,
    StartTLS,
)
from bridge.protocols.registry import client_machine, server_machine
from bridge.secret import Secret

DIRECTORY = Path(__file__).parent.parent / "transcripts"
ADDRESS = "alice@example.com"
TOKEN = "ya29.CANARY-token"
HOST, PORT = "mail.example.com", 993
"""OAUTHBEARER sends them along with the token."""

Cut = Callable[[bytes], Iterator[bytes]]

PROBLEMS: dict[str, errors.BridgeError] = {
    "LoginRefused": errors.LoginRefused("a reason"),
    "AuthorizationRequired": errors.AuthorizationRequired(ADDRESS, f"http://localhost:3017/sign-in/{ADDRESS}"),
    "ProviderUnavailable": errors.ProviderUnavailable("a reason"),
    "UpstreamUnavailable": errors.UpstreamUnavailable("a reason"),
    "StoreUnavailable": errors.StoreUnavailable("a reason"),
    "UpstreamRefused": errors.UpstreamRefused("a reason", text="LogonDenied"),
    "MailboxNotOpened": errors.MailboxNotOpened("a reason", text="User is authenticated but not connected."),
    "StoreCorrupt": errors.StoreCorrupt("a reason"),
    "LimitReached": errors.LimitReached("a reason"),
    "BridgeStops": errors.BridgeStops(),
}


@dataclass
class Transcript:
    name: str
    protocol: Protocol
    is_server: bool
    starttls: bool
    is_tls: bool
    promised: tuple[str, ...]
    mechanism: Mechanism
    client_name: str
    steps: list[tuple[str, str, int]] = field(default_factory=list)
    """Kind (`in`, `out`, `fact`, `tell`), text and line number."""


def read(path: Path) -> Transcript:
    lines = path.read_text("utf-8").splitlines()
    words = next(line for line in lines if line.startswith("# machine:")).split()[2:]
    names = [word.removeprefix("as=") for word in words if word.startswith("as=")]
    promised = [word.removeprefix("promises=") for word in words if word.startswith("promises=")]
    transcript = Transcript(
        path.stem,
        Protocol(words[0]),
        words[1] == "server",
        "starttls" in words,
        "tls" in words,
        tuple(promised[0].split(",")) if promised else (),
        Mechanism.OAUTHBEARER if "oauthbearer" in words else Mechanism.XOAUTH2,
        names[0] if names else "",
    )
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        mark, rest = line[:2], line[3:]
        if mark in {"C:", "S:", "C~", "S~"}:
            is_ours = (mark[0] == "S") is transcript.is_server
            content = rest.encode().decode("unicode_escape") + ("\r\n" if mark[1] == ":" else "")
            transcript.steps.append(("out" if is_ours else "in", content, number))
        elif mark in {"=>", "<="}:
            transcript.steps.append(("fact" if mark == "=>" else "tell", rest, number))
        else:
            raise AssertionError(f"{path.name}:{number}: {line!r}")
    return transcript


def all_of(kind: str = "*") -> list[Path]:
    return sorted(DIRECTORY.glob(f"{kind}/*.txt"))


class Player:
    """Feeds one machine and compares its output with the transcript, in order."""

    def __init__(self, transcript: Transcript, cut: Cut) -> None:
        self.transcript = transcript
        self.cut = cut
        self.said = ""
        """The bytes sent and the facts reported so far, in the transcript's notation."""
        self.is_over = False
        self.server: ServerMachine | None = None
        self.client: ClientMachine | None = None
        if transcript.is_server:
            self.server = server_machine(
                transcript.protocol,
                starttls=transcript.starttls,
                is_tls=transcript.is_tls,
                promised=transcript.promised,
            )
            self.take(self.server.greet())
        else:
            self.client = client_machine(
                transcript.protocol,
                Credentials(ADDRESS, Secret(TOKEN), transcript.mechanism, HOST, PORT),
                starttls=transcript.starttls,
                client_name=transcript.client_name,
            )
            self.take(self.client.start())

    def play(self) -> None:
        waiting = ""
        for kind, text, number in self.transcript.steps:
            if kind == "in":
                waiting += text
                continue
            self.feed(waiting)
            waiting = ""
            if kind == "tell":
                self.tell(text)
            else:
                self.expect(text if kind == "out" else f"=> {text}\n", number)
        self.feed(waiting)
        assert self.said == "", f"{self.transcript.name}: more than expected: {self.said!r}"

    def expect(self, text: str, number: int) -> None:
        assert self.said.startswith(text), f"{self.transcript.name}:{number}: {self.said!r} for {text!r}"
        self.said = self.said[len(text) :]

    def feed(self, text: str) -> None:
        machine = self.server or self.client
        assert machine is not None
        for piece in self.cut(text.encode("latin-1")):
            if self.is_over:
                return
            try:
                self.take(machine.receive(piece))
            except errors.ProtocolViolation as problem:
                self.is_over = True
                self.said += f"=> Violation {problem}\n"

    def tell(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word == "closed":
            machine = self.server or self.client
            assert machine is not None
            try:
                self.take(machine.closed())
            except errors.ProtocolViolation as problem:
                self.said += f"=> Violation {problem}\n"
            return
        assert self.server is not None
        if word == "refuse":
            self.take(self.server.refuse(PROBLEMS[rest]))
        elif word == "accept":
            words, _, untagged = rest.encode().decode("unicode_escape").partition("|")
            self.take(self.server.accept(Ready(b"", words.encode("latin-1"), untagged.encode("latin-1"))))
        elif word == "time_out":
            self.take(self.server.time_out())
        else:
            raise AssertionError(text)

    def take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Send(data):
                    self.said += data.decode("latin-1")
                case StartTLS(farewell):
                    self.said += farewell.decode("latin-1") + "=> StartTLS\n"
                    machine = self.server or self.client
                    assert machine is not None
                    self.take(machine.tls_started())
                case LoginRequested(login):
                    self.said += f"=> Login {login.username} {_shown(login.password.reveal())}\n"
                case Ready(leftover, words, untagged) if self.server is not None:
                    assert not words
                    assert not untagged
                    self.said += f"=> Ready {_shown(leftover)}\n"
                case Ready(leftover, words, untagged):
                    self.said += (
                        f"=> Ready text={_shown(words)} untagged={_shown(untagged)} leftover={_shown(leftover)}\n"
                    )
                    self.is_over = True
                case Refused(kind, words_of_refusal):
                    self.said += f"=> Refused {kind.name} {words_of_refusal}\n"
                    self.is_over = True
                case Hangup(farewell, violation):
                    self.said += farewell.decode("latin-1") + f"=> Hangup {violation}".rstrip() + "\n"
                    self.is_over = True


def _shown(data: bytes) -> str:
    return repr(data)[1:]
