"""Any RFC 8628 server, for a person at any browser: device authorization, and single polls."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from bridge.advice.said import said
from bridge.errors import ProviderUnavailable
from bridge.model import TokenSet
from bridge.oauth import answers
from bridge.oauth.base import DevicePending, DeviceRequest
from bridge.oauth.device import LONGEST_LIFE, SHORTEST_INTERVAL, expired, is_link
from bridge.oauth.failures import sign_in_problem
from bridge.oauth.generic import Generic
from bridge.oauth.token_endpoint import Answer
from bridge.secret import Secret

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
"""RFC 8628 section 3.4."""
DEFAULT_INTERVAL = 5.0
"""Seconds between two polls if the server does not say (RFC 8628 section 3.2)."""
DEFAULT_LIFE = 300.0
"""Seconds if a server leaves out `expires_in`, which it must send: time enough to type a code."""
LONGEST_USER_CODE = 64
"""Characters; real ones have 6 to 12."""

_PENDING = {"authorization_pending": DevicePending(), "slow_down": DevicePending(slow_down=True)}


class GenericDevice(Generic):
    """With `flow: device`. The grant is the same as with a browser."""

    async def begin_device(self) -> DeviceRequest:
        """Ask for a user code (RFC 8628 section 3.1)."""
        form = {"scope": " ".join(self._config.effective_scopes)}
        asked_at = self._clock.monotonic()  # the wall clock may be set while somebody types
        answer = await self._endpoint.ask(form, url=self._config.device_url)
        if answer.failure is not None:
            raise sign_in_problem(answer.failure, hide=self._endpoint.secrets)
        return _request(answer, asked_at)

    async def poll(self, request: DeviceRequest) -> TokenSet | DevicePending:
        """Poll once (RFC 8628 sections 3.4, 3.5); the caller decides when to poll again, by `interval` and
        `slow_down`."""
        kept = json.loads(request.kept.reveal())
        if self._clock.monotonic() >= kept["expires_at"]:
            raise expired()
        code = kept["device_code"]
        answer = await self._endpoint.ask({"grant_type": GRANT_TYPE, "device_code": code})
        if answer.failure is None:
            return self._signed_in(answer)
        # The error decides, not the status: Google says 428 for pending and 403 for slow_down.
        if (pending := _PENDING.get(answer.failure.error)) is not None:
            return pending
        if answer.failure.error == "expired_token":
            raise expired()
        raise sign_in_problem(answer.failure, hide=(Secret(code), *self._endpoint.secrets))


def _request(answer: Answer, asked_at: float) -> DeviceRequest:
    """Read a device authorization response (RFC 8628 section 3.2); `asked_at` is by the monotonic clock.

    Raises: ProviderUnavailable if it cannot be shown to a person: its content ends up on a page and in a terminal.
    """
    values = answer.values
    code, user_code = answers.sendable(values.get("device_code")), values.get("user_code")
    url = values.get("verification_uri") or values.get("verification_url")  # verification_url is Google's older name
    if not code or not isinstance(user_code, str) or not is_link(url):
        raise ProviderUnavailable(said("The provider's answer holds no device code, no user code or no https address."))
    if not 0 < len(user_code) <= LONGEST_USER_CODE or not user_code.isprintable():
        raise ProviderUnavailable(said("The provider's user code is not one that a person could type."))
    complete = values.get("verification_uri_complete")
    life = min(_seconds(values, "expires_in", DEFAULT_LIFE), LONGEST_LIFE)
    return DeviceRequest(
        user_code,
        str(url),
        str(complete) if is_link(complete) else "",
        life,
        max(_seconds(values, "interval", DEFAULT_INTERVAL), SHORTEST_INTERVAL),
        Secret(json.dumps({"device_code": code, "expires_at": asked_at + life})),
    )


def _seconds(values: Mapping[str, Any], name: str, default: float) -> float:
    """A duration; some servers send it as a string."""
    try:
        seconds = float(values.get(name, default))
    except (TypeError, ValueError, OverflowError):
        return default
    return seconds if math.isfinite(seconds) and seconds >= 0 else default
