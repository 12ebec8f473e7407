"""Where the bridge listens: addresses of this machine, and what must be said before others can reach one."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from bridge.advice.said import said
from bridge.config.values import BadValue, FilePath, HostName, Part, is_host, is_loopback
from bridge.model import TlsMode


class LocalAddress(Part):
    """A host and a port."""

    address: str = Field(description='localhost:1143 (127.0.0.1 and ::1), 127.0.0.1:1143 or "[::1]:1143"')

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        _split_address(value.strip())
        return value.strip()

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value

    @property
    def host(self) -> str:
        """Host part, without brackets."""
        return _split_address(self.address)[0]

    @property
    def port(self) -> int:
        """Port part."""
        return _split_address(self.address)[1]

    @property
    def is_local(self) -> bool:
        """True where no other machine can connect."""
        return is_loopback(self.host)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """`host:port` as a text is allowed, too."""
        section = handler(core)
        return {"anyOf": [{"type": "string", "minLength": 1}, handler.resolve_ref_schema(section)]}


class ConsoleAddress(LocalAddress):
    """Where the console listens: for browsers of this machine only, since it speaks HTTP without TLS."""

    @model_validator(mode="after")
    def _for_this_machine(self) -> ConsoleAddress:
        if not self.is_local:
            raise BadValue(
                said(
                    "{host} can be reached from other machines, but the console is only for this one: use 127.0.0.1; "
                    "from elsewhere, go there with `ssh -L {port}:localhost:{port}`, or run `mail-bridge authorize "
                    "ADDRESS --paste`",
                    host=self.host,
                    port=self.port,
                ),
                said(
                    "this address can be reached from other machines, but the console is only for this one: use "
                    "127.0.0.1; from elsewhere, go there with `ssh -L 3017:localhost:3017`, or run `mail-bridge "
                    "authorize ADDRESS --paste`"
                ),
            )
        return self


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value.strip()))
    except ValueError:
        raise BadValue(said("must be an IP address such as 10.0.0.5, or a network such as 10.0.0.0/24")) from None


Network = Annotated[str, AfterValidator(_network)]
"""As ipaddress.ip_network reads it; a single address is a network of one."""


class ListenAddress(LocalAddress):
    """Where mail programs connect."""

    tls: TlsMode | None = Field(None, description="TLS for the mail program: implicit or starttls. Default: none.")
    certificate: FilePath | None = Field(
        None, description="PEM file: certificate, then its chain. Default: one that mail-bridge makes."
    )
    key: FilePath | None = Field(None, description="PEM file: private key, without a password.")
    names: tuple[HostName, ...] = Field(
        (), description="Host names that the certificate made by mail-bridge is for, besides localhost."
    )
    exposed: bool = Field(False, description="true: other machines may connect, and it is meant. Needs tls.")
    proxy_protocol_from: tuple[Network, ...] = Field(
        (),
        description="Load balancers in front: only they may connect, each time with a PROXY protocol header (v1, v2).",
    )

    @property
    def is_certificate_made(self) -> bool:
        """True where the bridge makes the certificate itself."""
        return self.tls is not None and self.certificate is None

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """The names for which a certificate made for this address must be valid, besides localhost."""
        own = () if self.is_local or _is_unspecified(self.host) else (self.host,)
        return tuple(dict.fromkeys((*own, *self.names)))

    @model_validator(mode="after")
    def _complete(self) -> ListenAddress:
        if (self.certificate is None) != (self.key is None):
            raise BadValue(said("certificate and key go together; without both, mail-bridge makes a certificate"))
        if self.tls is None and (self.certificate or self.names):
            raise BadValue(said("certificate, key and names are of no use without `tls: implicit` or `tls: starttls`"))
        if self.certificate and self.names:
            raise BadValue(
                said("names are for the certificate that mail-bridge makes; your own certificate has its names already")
            )
        if self.is_local:
            return self
        self._meant()
        if self.is_certificate_made and not self.certificate_names:
            raise BadValue(
                said(
                    "which name do mail programs use for this machine? Add it: `names: [bridge.example.com]`; the "
                    "certificate is for that name"
                )
            )
        return self

    def _meant(self) -> None:
        """Raises: BadValue unless the file says, twice, that this port is for other machines."""
        if self.tls is None:
            raise BadValue(
                said(
                    "{host} can be reached from other machines, and passwords would cross the network unencrypted: use "
                    "localhost, or add `tls: implicit` and `exposed: true`",
                    host=self.host,
                ),
                said(
                    "this address can be reached from other machines, and passwords would cross the network "
                    "unencrypted: use localhost, or add `tls: implicit` and `exposed: true`"
                ),
            )
        if not self.exposed:
            raise BadValue(
                said(
                    "{host} can be reached from other machines: use localhost or, if that is intended, add `exposed: "
                    "true`",
                    host=self.host,
                ),
                said(
                    "this address can be reached from other machines: use localhost or, if that is intended, add "
                    "`exposed: true`"
                ),
            )


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


_PORT = re.compile(r"[0-9]{1,5}")
_URL = re.compile(r"\w+://([^/\s]+:[0-9]{1,5})/?")
"""An address written as a URL, which is how the console's is shown everywhere else."""


def _split_address(value: str) -> tuple[str, int]:
    if url := _URL.fullmatch(value):
        raise BadValue(
            said("write the address and the port alone: {address}", address=url[1]),
            said("write the address and the port alone: {address}", address="localhost:PORT"),
        )
    host, colon, port = value.rpartition(":")
    if not colon and _PORT.fullmatch(port):
        raise BadValue(
            said("write the address, too: {address}", address=f"localhost:{port}"),
            said("write the address, too: {address}", address="localhost:PORT"),
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # IPv6 without brackets: which colon is the port's?
    if not is_host(host) or not _PORT.fullmatch(port) or int(port) > 65535:
        raise BadValue(
            said("{value} is not an address and a port such as localhost:1143", value=repr(value)),
            said("is not an address and a port such as localhost:1143"),
        )
    if (plain := unmapped(host)) is not None:
        # Our IPv6 sockets take IPv6 only; and whether a mapped address counts as loopback depends on Python's version.
        raise BadValue(
            said("write it as an IPv4 address: {address}", address=f"{plain}:{port}"),
            said("write it as an IPv4 address"),
        )
    return host, int(port)


def unmapped(host: str) -> str | None:
    """10.0.0.5 for ::ffff:10.0.0.5; None for what is no IPv4-mapped address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped) if mapped is not None else None
