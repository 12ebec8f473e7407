"""How long we wait for a provider."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that we wait for a provider; msal and google-auth would wait for ever and for two minutes."""

    connect: float = 10.0
    """For all addresses of the host, which are tried in parallel: if none answers by then, there is a firewall."""
    read: float = 10.0
    """Between two pieces of the answer to a GET."""
    overall: float = 25.0
    """For a GET, and for the wait for a free thread."""
    answer: float = 60.0
    """Between two pieces of the answer to a POST; a POST may also take this much longer in all than a GET. Token
    endpoints answer in well under a second; but if we hang up during a refresh, we lose the refresh token that comes a
    moment later. Mail programs need not wait so long: see tokens.service."""

    @property
    def call(self) -> float:
        """For one call once it has a thread: at most a GET and a POST."""
        return 2 * self.overall + self.answer


OF_A_CHECK = Limits(connect=5.0, read=8.0, overall=15.0, answer=8.0)
"""For a check that a person waits for, where nothing is lost with an answer that comes too late."""
