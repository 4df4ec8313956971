"""Which IP addresses a stranger may make us connect to: the public ones, by an explicit list of all others.

`ipaddress.is_global` alone is not enough: it calls NAT64 and 6to4 forms of private addresses global, and knows nothing
of the cloud services that sit on public-looking addresses.

Sources: IANA's IPv4 and IPv6 special-purpose address registries; RFC 6052 (NAT64), 3056 (6to4), 4291 (mapped), 5214
(ISATAP).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

_REFUSED_4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is Alibaba's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's own services, on an address that looks public
        "169.254.0.0/16",  # link-local: the metadata services of AWS, Azure, Google, Tencent (169.254.0.23)
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols; 192.0.0.192 is Oracle's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
_GLOBAL_UNICAST_6 = IPv6Network("2000::/3")  # all that has been given out: loopback, fc00::/7, fe80::/10 lie outside
_REFUSED_6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocols: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_MAPPED = IPv6Network("::ffff:0:0/96")
_ISATAP = (0x00005EFE, 0x02005EFE)  # upper half of the interface identifier, before an IPv4 address


def is_public(address: Address) -> bool:
    """Whether a user's URL may lead there.

    An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4, ISATAP) is as public as what it carries: a gateway on
    the way would unwrap it.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_4)
    bits = int(address)
    if address in _MAPPED or address in _NAT64:
        return is_public(IPv4Address(bits & 0xFFFFFFFF))
    if address in _6TO4:
        return is_public(IPv4Address(bits >> 80 & 0xFFFFFFFF))
    if bits >> 32 & 0xFFFFFFFF in _ISATAP and not is_public(IPv4Address(bits & 0xFFFFFFFF)):
        return False
    return address in _GLOBAL_UNICAST_6 and not any(address in network for network in _REFUSED_6)
