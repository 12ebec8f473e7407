"""msal in threads, one application for each call; the only module that imports msal.

Each call builds a new application over the stored cache. An application that lives longer would return error answers
from memory for a minute, even when told to force a refresh, and an app's token until five minutes before its expiry,
with no way to ask for another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from bridge.advice.said import said
from bridge.config.microsoft import MicrosoftProvider
from bridge.errors import ProviderRefused, ProviderUnavailable
from bridge.oauth.http import Https
from bridge.oauth.limits import Limits
from bridge.oauth.microsoft.wire import Forgetful, Wire
from bridge.oauth.quiet import quieten
from bridge.secret import Secret

if TYPE_CHECKING:
    from bridge.oauth.microsoft.certificates import ClientCertificate

T = TypeVar("T")

_GARBAGE = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, AssertionError)
"""What msal raises for answers that make no sense, besides its own MsalError."""


def _certificate(config: MicrosoftProvider) -> ClientCertificate | None:
    if config.client_certificate is None:
        return None
    from bridge.oauth.microsoft.certificates import ClientCertificate  # late: X.509 takes a tenth of the start

    return ClientCertificate(config.client_certificate, config.client_certificate_key)


class Library:
    """msal, set up for one provider of the configuration."""

    def __init__(self, name: str, config: MicrosoftProvider, limits: Limits) -> None:
        self._config = config
        self._https = Https(name, ca_file=config.ca_file, proxy=config.proxy, limits=limits)
        self._wire = Wire(self._https)
        self._certificate = _certificate(config)

    async def run(self, work: Callable[[], T]) -> T:
        """Do blocking work with msal in a thread. Raises: ProviderUnavailable if msal cannot understand an answer."""
        return await self._https.run(lambda: self._guarded(work))

    def application(self, cache: Any) -> Any:
        """A new msal application over `cache`. Asks the network for the discovery document if it is not known.

        Raises: ProviderUnavailable, ProviderRefused.
        """
        import msal  # late: it costs start time and memory, and nobody may ever use Microsoft

        quieten()
        self._check_host()
        options: dict[str, Any] = {
            "authority": self._config.authority,
            "token_cache": cache,
            "http_client": self._wire,
            "http_cache": Forgetful(),
            # _check_host() knows Microsoft's hosts. msal would ask Microsoft's public cloud, even after each refused
            # refresh, where a network problem would then hide the refusal.
            "instance_discovery": False,
            "azure_region": False,  # otherwise MSAL_FORCE_REGION in the environment redirects the token requests
        }
        credential = self._credential()
        if credential is None:
            return msal.PublicClientApplication(self._config.client_id, **options)
        return msal.ConfidentialClientApplication(self._config.client_id, client_credential=credential, **options)

    def own_secrets(self) -> tuple[Secret[str], ...]:
        """Our secrets, which a provider's text must not carry into ours, whichever request it answers."""
        return (self._config.client_secret,) if self._config.client_secret else ()

    def close(self) -> None:
        """Release the connections."""
        self._https.close()

    def _credential(self) -> Any:
        """None for a public client."""
        if self._certificate is not None:
            return self._certificate.credential()
        secret = self._config.client_secret
        return secret.reveal() if secret is not None else None

    def _check_host(self) -> None:
        """A client secret is sent only to Microsoft's hosts, unless the admin vouches for another (discovery:
        false)."""
        from msal.authority import WELL_KNOWN_AUTHORITY_HOSTS

        host = urlsplit(self._config.authority).hostname
        if self._config.discovery and host not in WELL_KNOWN_AUTHORITY_HOSTS:
            raise ProviderRefused(
                said(
                    "{host} is not one of Microsoft's sign-in hosts: the administrator must correct the URLs or, if "
                    "that is intended, set `discovery: false`.",
                    host=host,
                )
            )

    def _guarded(self, work: Callable[[], T]) -> T:
        """Map what msal raises. Errors in dicts are mapped where they appear, network problems by Wire."""
        from msal.exceptions import MsalError
        from requests import RequestException

        try:
            return work()
        except (RequestException, MsalError, *_GARBAGE) as problem:
            # from None: msal puts state and nonce into some texts
            raise ProviderUnavailable(
                said("Microsoft's answer makes no sense to the msal library ({kind}).", kind=type(problem).__name__)
            ) from None


def new_cache() -> Any:
    """An empty msal token cache."""
    import msal

    return msal.SerializableTokenCache()


def refresh_tokens(cache: Any) -> tuple[Secret[str], ...]:
    """All refresh tokens that a cache holds."""
    found = cache.search(cache.CredentialType.REFRESH_TOKEN)
    return tuple(Secret(entry["secret"]) for entry in found if entry.get("secret"))
