"""Counts of what the bridge has done since its start, for monitoring; none of them is about one person.

They are updated when a login is answered, a token was requested, or a session has ended: never while bytes pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from bridge import __version__
from bridge.model import Protocol

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that Prometheus and compatible programs read."""

_PROTOCOLS = tuple(protocol.value for protocol in Protocol)


@dataclass(frozen=True, slots=True)
class Metric:
    """One name, and a number for each combination of its labels' values."""

    name: str
    kind: str
    """`counter` or `gauge`."""
    meaning: str
    """English, in one line."""
    labels: Mapping[str, tuple[str, ...]]
    """Each with all values that it may have: what has not happened yet is exported as 0, because otherwise the first
    event would not count in a rate."""

    def sample(self, *values: str) -> str:
        """The name with these values of its labels, as the text format writes them."""
        pairs = ",".join(f'{label}="{value}"' for label, value in zip(self.labels, values, strict=True))
        return f"{self.name}{{{pairs}}}"

    def samples(self) -> dict[tuple[str, ...], str]:
        """All samples, by name and values."""
        return {(self.name, *values): self.sample(*values) for values in product(*self.labels.values())}


LOGINS = Metric(
    "mail_bridge_logins_total",
    "counter",
    "Logins of mail programs by our answer: yes, no, or later (temporary trouble, or nobody has signed in).",
    {"protocol": _PROTOCOLS, "answer": ("yes", "no", "later")},
)
BYTES = Metric(
    "mail_bridge_relayed_bytes_total",
    "counter",
    "Bytes relayed in sessions that have ended, by whom they went to: the mail program or the mail server.",
    {"protocol": _PROTOCOLS, "to": ("program", "server")},
)
REFRESHES = Metric(
    "mail_bridge_token_refreshes_total",
    "counter",
    "Refreshes of access tokens by outcome: done, later where it is tried again, failed where somebody must act.",
    {"outcome": ("done", "later", "failed")},
)
SESSIONS = Metric(
    "mail_bridge_sessions",
    "gauge",
    "Connections of mail programs that are being served.",
    {"protocol": _PROTOCOLS},
)
ACCOUNTS = Metric(
    "mail_bridge_accounts",
    "gauge",
    "Accounts by state, as in `mail-bridge status --json`, at most a minute old; missing if the store is too slow.",
    {"state": ("ready", "sign-in", "pending", "trouble")},
)
INFO = Metric("mail_bridge_info", "gauge", "Always 1.", {"version": (__version__,)})

_COUNTED = (LOGINS, BYTES, REFRESHES)
_SAMPLES = {key: sample for metric in _COUNTED for key, sample in metric.samples().items()}
"""Prepared, because to format a sample's name takes ten times as long as to count."""


class Counters:
    """The counters of this process; a worker hands its own to the bridge, which adds them up."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_SAMPLES.values(), 0)

    def add(self, metric: Metric, *values: str, by: int = 1) -> None:
        """Add `by` to this sample."""
        self._counts[_SAMPLES[metric.name, *values]] += by

    def take(self) -> dict[str, int]:
        """The counts since the last call, for add_all(). Counts that a process has not handed on are lost with it."""
        taken = {sample: count for sample, count in self._counts.items() if count}
        self._counts.update(dict.fromkeys(taken, 0))
        return taken

    def add_all(self, taken: Mapping[str, int]) -> None:
        """Add another process's counts. Raises: ValueError, having added nothing, for what is no count of ours."""
        if not taken.keys() <= self._counts.keys() or any(type(one) is not int or one < 0 for one in taken.values()):
            raise ValueError("no counts")
        for sample, count in taken.items():
            self._counts[sample] += count

    def __getitem__(self, sample: str) -> int:
        return self._counts[sample]


def exposition(counters: Counters, sessions: Mapping[str, int], accounts: Mapping[str, int] | None) -> str:
    """All metrics, in the text format.

    Args: sessions, the current ones, by protocol; accounts, how many, by state, None if that is not known. What is
    missing in either is 0.
    """
    gauges = {INFO.name: {__version__: 1}, SESSIONS.name: sessions, ACCOUNTS.name: accounts or {}}
    lines: list[str] = []
    for metric in (INFO, SESSIONS, *((ACCOUNTS,) if accounts is not None else ()), *_COUNTED):
        lines += f"# HELP {metric.name} {metric.meaning}", f"# TYPE {metric.name} {metric.kind}"
        gauge = gauges.get(metric.name)
        for (_, *values), sample in metric.samples().items():
            lines.append(f"{sample} {counters[sample] if gauge is None else gauge.get(values[0], 0)}")
    return "\n".join(lines) + "\n"
