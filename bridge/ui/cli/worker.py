"""`mail-bridge worker DESCRIPTOR`: what the bridge starts for itself where `workers` is more than 1; not for people."""

from __future__ import annotations

import asyncio

from bridge.host.collector import spare_the_collector
from bridge.host.hardening import forbid_dumps, say_where_it_crashed
from bridge.host.loop import new_event_loop
from bridge.host.workers import prepare_worker
from bridge.observe import logs
from bridge.workers.worker import work


def run_worker(descriptor: str) -> int:
    """Serve mail clients for the bridge at the other end. Without click and configuration: 20 MB less for each."""
    forbid_dumps()
    say_where_it_crashed()
    logs.configure("info")  # until the bridge says how
    try:
        passage, descriptors = prepare_worker(int(descriptor))
    except (ValueError, OverflowError, OSError):  # not a number, or not a socket's
        return _called_by_hand()
    spare_the_collector()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work(passage, descriptors))
    return 0


def _called_by_hand() -> int:
    """By somebody who has seen it in the list of processes."""
    import click  # late: a worker needs none

    from bridge.ui.cli.calling import own_program
    from bridge.ui.cli.session import UNUSABLE, speak_before_parsing
    from bridge.ui.i18n import say

    speak_before_parsing([])
    sentence = say("mail-bridge starts `worker` itself where `workers` is more than 1. To start the bridge: {command}")
    told = sentence.format(command=f"{own_program()} run")
    click.echo(f"mail-bridge: {told}", err=True)
    return UNUSABLE
