"""`mail-bridge run`: serve until Ctrl-C; with --demo, without Google or Microsoft."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from pathlib import Path

import click

from bridge.app import App
from bridge.config.load import LoadedConfig, parse_config
from bridge.errors import KeyringMissing, StoreCorrupt, StoreUnavailable
from bridge.host.signals import stop_on_signal
from bridge.notices import AuthorizationEnded, AuthorizationNeeded, Authorized, Notice
from bridge.observe import logs
from bridge.secret import Secret
from bridge.stores.sealed import KEY_BYTES, SealedStore
from bridge.ui.cli.session import DONE, CannotStart, Settings, console, in_loop, load, opened, with_settings


@click.command()
@click.option("--demo", is_flag=True, help="Bring an identity provider and mail servers along; no account needed.")
@with_settings
def run(settings: Settings, demo: bool) -> int:
    """Start the bridge and serve mail programs until Ctrl-C."""
    return in_loop(_serve_demo(settings) if demo else _serve(settings))


async def _serve(settings: Settings) -> int:
    loaded = load(settings)
    logs.configure(settings.log_level or loaded.config.log.level, loaded.config.log.format)
    async with opened(loaded) as app:
        await _check_store(app, loaded)
        app.bind()
        async with console(app, known_as=loaded.path):
            await _until_stopped(app)
    return DONE


async def _check_store(app: App, loaded: LoadedConfig) -> None:
    """A key that is wrong or gone ends the start; a keyring that is locked just now does not: accounts say so."""
    try:
        await app.check_store()
    except (StoreCorrupt, KeyringMissing) as problem:
        raise CannotStart(str(problem)) from problem
    except StoreUnavailable as problem:
        if loaded.config.store.key_file is not None:
            raise CannotStart(str(problem)) from problem
        logs.trouble("store.unavailable", reason=str(problem))


async def _until_stopped(app: App) -> None:
    stop = asyncio.Event()
    app.on_notice(_announce)
    with stop_on_signal(stop.set):
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(app.serve())
            logs.event("bridge.up", console=f"http://localhost:{app.console_port}/")
            await stop.wait()
            logs.event("bridge.stopping")
            app.stop()
            await serving


def _announce(notice: Notice) -> None:
    """What a person at the terminal or a reader of the log wants to know at once."""
    match notice:
        case AuthorizationNeeded(address, url, reason):
            logs.trouble("sign_in.needed", account=address, url=url, reason=reason)
        case Authorized(address, subject):
            logs.event("sign_in.done", account=address, subject=subject)
        case AuthorizationEnded(address, code, reason):
            logs.trouble("sign_in.ended", account=address, code=code, reason=reason)
        case _:
            pass


# --- demo ---------------------------------------------------------------------------------------------------------


async def _serve_demo(settings: Settings) -> int:
    from bridge.demo.world import demo_world
    from bridge.stores.memory import MemoryStore

    logs.configure(settings.log_level or "warning")
    console_port, *ports = [_free_port(port) for port in (3017, 1143, 1110, 1587)]
    async with demo_world(console_port, (ports[0], ports[1], ports[2])) as world:
        loaded = parse_config(world.yaml, name="(demo)", directory=Path.cwd())
        store = SealedStore(MemoryStore(), Secret(secrets.token_bytes(KEY_BYTES)))
        async with opened(loaded, store, is_demo=True) as app:
            app.bind()
            async with console(app) as admin_url:
                passwords = {address: await app.local_password(address) for address in world.addresses}
                click.echo(_demo_guide(app, passwords, ports, admin_url))
                await _until_stopped(app)
    click.echo("The demo is over; nothing of it is left.")
    return DONE


def _demo_guide(app: App, passwords: dict[str, Secret[str]], ports: list[int], admin_url: str) -> str:
    imap, pop3, smtp = ports
    (alice, alices), (bob, bobs) = passwords.items()
    curl = "curl -sS --user"
    return f"""
mail-bridge demo: a play provider and play mail servers, all in this process's memory. Nothing here is real.

  account             local password
  {alice:<18}  {alices.reveal()}
  {bob:<18}  {bobs.reveal()}

1. A mail program logs in, and is told that somebody must sign in first (curl says "Login denied"; -v shows the words):

     {curl} {alice}:{alices.reveal()} imap://localhost:{imap}/INBOX

2. Sign in, once: open {app.sign_in_url(alice)} and press Accept.

3. The same line now lists the mailbox. Read a message, by IMAP and by POP3:

     {curl} {alice}:{alices.reveal()} 'imap://localhost:{imap}/INBOX;MAILINDEX=1'
     {curl} {alice}:{alices.reveal()} pop3://localhost:{pop3}/1

4. Send one to Bob:

     printf 'Subject: Hello\\r\\n\\r\\nHello Bob\\r\\n' | {curl} {alice}:{alices.reveal()} \\
       smtp://localhost:{smtp} --mail-from {alice} --mail-rcpt {bob} --upload-file -

   Bob reads it after his own sign-in, {app.sign_in_url(bob)} :

     {curl} {bob}:{bobs.reveal()} 'imap://localhost:{imap}/INBOX;MAILINDEX=2'

All accounts at a glance: {admin_url}
Ctrl-C ends the demo. For real mail: copy config.example.yaml to config.yaml, edit it, then: mail-bridge run
"""


def _free_port(preferred: int) -> int:
    """The usual port, or any: other bridges like 1143 too, and a demo must start."""
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.bind(("127.0.0.1", preferred))
        return preferred
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
