"""Four sessions that FETCH as fast as they can until standard input ends: `python -m bench.neighbours WORDS`."""

from __future__ import annotations

import json
import select
import sys

from bench import client
from bench.content import whole_lines

SESSIONS = 4
OCTETS = whole_lines(16 * 1024 * 1024)


def main() -> None:
    port, *words = json.loads(sys.argv[1])
    sessions = client.logged_in("imap", port, [client.Identity(*words)] * SESSIONS, SESSIONS)
    client.run_all([client.fetch(session, OCTETS) for session in sessions])
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        client.run_all([client.fetch(session, OCTETS) for session in sessions])


if __name__ == "__main__":
    main()
