"""Microsoft, a person at any browser who types a code (RFC 8628)."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.errors import BridgeError, ProviderRefused, ProviderUnavailable
from bridge.model import TokenSet
from bridge.oauth.base import DevicePending, DeviceRequest
from bridge.oauth.device import LONGEST_LIFE, SHORTEST_INTERVAL, expired, is_link
from bridge.oauth.failures import Failure, not_signed_in, sign_in_problem, without_secrets
from bridge.oauth.microsoft.library import new_cache
from bridge.oauth.microsoft.person import Person
from bridge.secret import Secret

NOT_PUBLIC = 7000218
"""AADSTS number: a secret is missing. Device sign-in has none, so the registration does not allow public clients."""


class Device(Person):
    """`kind: microsoft, flow: device`; always a public client, because msal offers device sign-in to no other."""

    async def begin_device(self) -> DeviceRequest:
        """Ask for a user code."""
        return await self._library.run(self._begin)

    async def poll(self, request: DeviceRequest) -> TokenSet | DevicePending:
        """Ask once whether the person has finished."""
        return await self._library.run(lambda: self._poll(request))

    def _begin(self) -> DeviceRequest:
        asked_at = self._clock.monotonic()  # the wall clock may be set while somebody types
        flow = self._library.application(new_cache()).initiate_device_flow(self._scopes)
        if "error" in flow:
            problem = _problem(Failure.of(flow))
            raise (
                problem
                if isinstance(problem, ProviderUnavailable)
                else ProviderRefused(str(problem), diagnosis=problem.diagnosis)
            )
        code, user_code, url = flow["device_code"], flow["user_code"], flow["verification_uri"]
        life = min(float(flow["expires_in"]), LONGEST_LIFE)
        if not (all(isinstance(text, str) and text for text in (code, user_code)) and life > 0 and is_link(url)):
            raise ProviderUnavailable(said("Microsoft's answer holds no code that a person could type."))
        complete = flow.get("verification_uri_complete", "")  # Microsoft has none
        interval = max(float(flow["interval"]), SHORTEST_INTERVAL)
        kept = {"device_code": code, "user_code": user_code, "expires_at": asked_at + life}
        return DeviceRequest(
            user_code, url, complete if is_link(complete) else "", life, interval, Secret(json.dumps(kept))
        )

    def _poll(self, request: DeviceRequest) -> TokenSet | DevicePending:
        kept = json.loads(request.kept.reveal())
        if self._clock.monotonic() >= kept["expires_at"]:
            raise expired()
        asked_at = self._clock.now()
        cache = new_cache()
        # msal polls in a loop, sleeping in between, until exit_condition says yes. With an interval of 0 it never looks
        # at exit_condition, and polls without pause or end. And it warns if the flow holds the time of an earlier poll.
        flow = {"device_code": kept["device_code"], "interval": 1}
        application = self._library.application(cache)
        answer = application.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
        match answer.get("error"):
            case None:
                return self._signed_in(answer, cache, asked_at)
            case "authorization_pending":
                return DevicePending()
            case "slow_down":
                return DevicePending(slow_down=True)
        raise _problem(Failure.of(answer), Secret(kept["device_code"]), Secret(kept["user_code"]))

    def _refused(self, failure: Failure, hide: Iterable[Secret[str]]) -> BridgeError:
        """The same problem, if public clients are forbidden again later."""
        return _not_public(failure, hide) if NOT_PUBLIC in failure.codes else super()._refused(failure, hide)


def _problem(failure: Failure, *hide: Secret[str]) -> BridgeError:
    """The error to raise for RFC 8628's errors (section 3.5) and Microsoft's name for one of them."""
    match failure.error:
        case "authorization_declined":
            return not_signed_in("oauth.declined", "denied")
        case "expired_token":
            return expired()
    return _not_public(failure, hide) if NOT_PUBLIC in failure.codes else sign_in_problem(failure, hide=hide)


def _not_public(failure: Failure, hide: Iterable[Secret[str]]) -> ProviderRefused:
    theirs = without_secrets(f"{failure.error}: {failure.description}", hide)
    return ProviderRefused(diagnosis=Diagnosis.of("microsoft.not_public", theirs))
