"""What can be tried of a configuration that is not written to a file yet: for the console's first-run page."""

from __future__ import annotations

import asyncio

from bridge.config.load import LoadedConfig
from bridge.control.contract import Finding
from bridge.doctor.discovery import discovery_findings
from bridge.doctor.examination import bounded, in_thread, one
from bridge.doctor.keys import keyring_finding
from bridge.doctor.machine import Machine, machine_findings
from bridge.doctor.network import network_findings
from bridge.doctor.ports import Bind, port_findings


async def rehearse(loaded: LoadedConfig, machine: Machine, bind: Bind) -> tuple[Finding, ...]:
    """Run all checks side by side, within a minute. There is no store and no sign-in yet, and none is made.

    Args: bind, to try the ports with; it knows that the console's port is ours.
    """
    config = loaded.config
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(in_thread("port", lambda: port_findings(config, bind, machine))),
            group.create_task(bounded("keyring", one(keyring_finding(config.store)))),
            group.create_task(in_thread("machine", lambda: machine_findings(config, machine))),
            group.create_task(bounded("connection", network_findings(config))),
            group.create_task(bounded("tenant", discovery_findings(config))),
        ]
    return tuple(finding for task in tasks for finding in task.result())
