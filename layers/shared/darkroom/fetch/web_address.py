"""A stranger's URL -> its parts, in one strict reading: whatever another parser might read differently is refused."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from darkroom.errors import ImageUrlRejected
from darkroom.fetch.addresses import Address, is_public

MAX_CHARACTERS = 4096
_PORTS = {"https": 443, "http": 80}
# RFC 3986, without userinfo; every character is a visible ASCII one, and a backslash is none of them.
_URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*)?"
    r"(?P<query>\?(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?"
    r"(?:#(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What other parsers take for an IPv4 address (WHATWG "ends in a number"): decimal, octal, hexadecimal, short forms.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRIVATE_NAMES = ("localhost", "local", "localdomain", "internal", "intranet", "private", "lan", "home", "corp", "arpa")


@dataclass(frozen=True)
class WebAddress:
    """`host` is a lower-case name, or the canonical spelling of an address, without brackets, which is `literal` too.

    `target` is the path with the query. `trusted`: the deployment's operator has named host and port, so that neither
    scheme nor address is checked any further.
    """

    scheme: str
    host: str
    port: int
    target: str
    literal: Address | None = None
    trusted: bool = False

    @property
    def authority(self) -> str:
        """Host and port as a URL and the Host header have them."""
        host = f"[{self.host}]" if isinstance(self.literal, IPv6Address) else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, *, trusted: Collection[str] = (), http: bool = False) -> WebAddress:
    """The parts of an absolute URL; nothing is looked up.

    `trusted` names `host:port` pairs that may be reached whatever they are; `http` allows http:// on port 80.

    Raises: ImageUrlRejected.
    """
    match = _URL.fullmatch(url) if len(url) <= MAX_CHARACTERS else None
    if match is None:
        raise ImageUrlRejected(
            f"Send a plain https:// URL of at most {MAX_CHARACTERS} ASCII characters, without user name or backslash."
        )
    scheme, host = match["scheme"].lower(), match["host"].lower()
    if scheme not in _PORTS:
        raise ImageUrlRejected("Only https:// URLs are fetched.")
    port = int(match["port"] or _PORTS[scheme])
    literal = _literal(host)
    host = host if literal is None else str(literal)
    target = (match["path"] or "/") + (match["query"] or "")
    address = WebAddress(scheme, host, port, target, literal)
    spelled = f"[{host}]:{port}" if isinstance(literal, IPv6Address) else f"{host}:{port}"
    if spelled in trusted:
        return WebAddress(scheme, host, port, target, literal, trusted=True)
    if scheme == "http" and not http:
        raise ImageUrlRejected("Only https:// URLs are fetched.")
    if port != _PORTS[scheme]:
        raise ImageUrlRejected("Only the usual port of https:// URLs is connected to.")
    if literal is None:
        _refuse_private_name(host)
    elif not is_public(literal):
        raise ImageUrlRejected("This address is not a public one.")
    return address


def _literal(host: str) -> Address | None:
    """The IP address that `host` spells in the canonical way, or None for a name. Raises: ImageUrlRejected."""
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1])
        if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            return IPv4Address(host)
    except AddressValueError:
        raise ImageUrlRejected("Spell an IP address in the usual way, or use a host name.") from None
    return None


def _refuse_private_name(host: str) -> None:
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ImageUrlRejected("The URL's host is not a host name.")
    if len(labels) < 2 or labels[-1] in _PRIVATE_NAMES:
        raise ImageUrlRejected("This host name is not a public one.")
