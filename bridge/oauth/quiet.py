"""Keeps the OAuth libraries' loggers at INFO: their DEBUG prints authorization codes, verifiers and tokens."""

from __future__ import annotations

import logging

LOUD = ("msal", "requests_oauthlib", "oauthlib", "google", "google_auth_oauthlib", "urllib3")
"""Observed: msal prints code and verifier, requests_oauthlib the whole token request and its answer."""


def quieten() -> None:
    """Drop everything below INFO from these libraries, whatever level anybody sets; call after importing one.

    A level on a parent logger would be undone by a level on a child, so each existing logger gets a filter as well.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.split(".", 1)[0] in LOUD and isinstance(logger, logging.Logger):
            logger.addFilter(_from_info)  # adding the same filter twice is harmless
    for name in LOUD:
        top = logging.getLogger(name)
        top.setLevel(max(logging.INFO, top.level))


def _from_info(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO
