"""`mail-bridge run --demo`: the ports that it takes, and the lines that it prints."""

from __future__ import annotations

import os
import socket

from bridge.advice.said import said
from bridge.app import App
from bridge.errors import BridgeError
from bridge.host.sockets import PortInUse, bind
from bridge.secret import Secret
from bridge.ui.cli.calling import own_program
from bridge.ui.i18n import say


class DemoPorts:
    """Each port is bound when it is chosen: a port that is only found free may be taken before we listen."""

    def __init__(self) -> None:
        self._held: dict[int, list[socket.socket]] = {}

    def choose(self, preferred: int) -> int:
        """The usual port, or any: other bridges like 1143 too, and a demo must start. Raises: BridgeError."""
        try:
            try:
                found = bind("localhost", preferred, what="demo")
            except PortInUse:
                found = bind("localhost", 0, what="demo")
        except BridgeError as problem:
            raise BridgeError(said("the demo cannot start: {reason}", reason=problem.words)) from problem
        port: int = found[0].getsockname()[1]
        self._held[port] = found
        return port

    def bind(self, _host: str, port: int, _what: str) -> list[socket.socket]:
        """See relay.ports.Bind."""
        return self._held.pop(port)

    def close(self) -> None:
        """Close the sockets that nobody has taken."""
        for sockets in self._held.values():
            for sock in sockets:
                sock.close()


def demo_guide(app: App, passwords: dict[str, Secret[str]], ports: list[int], admin_url: str) -> str:
    """The lines to try, one after the other."""
    imap, pop3, smtp = ports
    (alice, alices), (bob, bobs) = passwords.items()
    curl = "curl.exe" if os.name == "nt" else "curl"  # PowerShell's own `curl` is another program
    user = f"{curl} -sS --user {alice}:{alices.reveal()}"
    to_bob = f"smtp://localhost:{smtp} --mail-from {alice} --mail-rcpt {bob} --upload-file -"
    write = hello_bob(user, to_bob, is_windows=os.name == "nt")
    account, password = say("account"), say("local password")
    first = say(
        '1. A mail program logs in, and is told that somebody must sign in first (curl says "Login denied"; -v shows '
        "the words):"
    )
    second = say("2. Sign in, once: open {url} and press Sign in, then Accept.").format(url=app.sign_in_url(alice))
    third = say("3. The same command now lists the folders. Read a message, by IMAP and by POP3:")
    fourth = say("4. Send one to Bob:")
    title = say(
        "mail-bridge demo: a made-up provider and made-up mail servers, all in the memory of this "
        "program. Nothing here is real."
    )
    glance = say("All accounts at a glance: {url}").format(url=admin_url)
    end = say("Ctrl-C ends the demo. For real mail: {command}").format(command=f"{own_program()} init")
    reads = say("Bob can read it after his own sign-in at {url} :").format(url=app.sign_in_url(bob))
    return f"""
{title}

  {account:<18}  {password}
  {alice:<18}  {alices.reveal()}
  {bob:<18}  {bobs.reveal()}

{first}

     {user} imap://localhost:{imap}/INBOX

{second}

{third}

     {user} "imap://localhost:{imap}/INBOX;MAILINDEX=1"
     {user} pop3://localhost:{pop3}/1

{fourth}

     {write}

   {reads}

     {curl} -sS --user {bob}:{bobs.reveal()} "imap://localhost:{imap}/INBOX;MAILINDEX=2"

{glance}
{end}
"""


def hello_bob(user: str, to_bob: str, *, is_windows: bool) -> str:
    """A message into the command that sends it; for Windows a line that both of its shells take."""
    if is_windows:
        return f'cmd /c "(echo Subject: Hello& echo.& echo Hello Bob)| {user} {to_bob}"'
    return f"printf 'Subject: Hello\\r\\n\\r\\nHello Bob\\r\\n' | {user} \\\n       {to_bob}"
