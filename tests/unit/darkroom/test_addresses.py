"""Which addresses are public, and that no spelling of another one gets through."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.addresses import is_public
from darkroom.errors import ImageUrlRejected
from darkroom.web_address import parse

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0"]
PUBLIC_6 = ["2606:4700::1111", "2001:4860:4860::8888", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::1"]
PRIVATE = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",
    )
]


@st.composite
def private_addresses(draw: st.DrawFn) -> IPv4Address:
    network = draw(st.sampled_from(PRIVATE))
    return network[draw(st.integers(0, network.num_addresses - 1))]


def carried(address: IPv4Address) -> list[IPv6Address]:
    """Every IPv6 form of an IPv4 address."""
    bits = int(address)
    return [
        IPv6Address(form)
        for form in (
            bits,  # compatible, long out of use
            0xFFFF << 32 | bits,
            0x64FF9B << 96 | bits,
            0x2002 << 112 | bits << 80,
            0x2002 << 112 | bits << 80 | 1,
            0x2600 << 112 | 0x5EFE << 32 | bits,
            0x2600 << 112 | 0x02005EFE << 32 | bits,
        )
    ]


def spellings(address: IPv4Address) -> list[str]:
    """What one parser or another takes for this IPv4 address, without the usual spelling."""
    a, b, c, d = address.packed
    bits = int(address)
    return [
        str(bits),
        hex(bits),
        f"0X{bits:X}",
        f"0{bits:o}",
        f"{a}.{bits & 0xFFFFFF}",
        f"{a}.{b}.{bits & 0xFFFF}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a}.{b}.{c}.{d:#x}",
        f"{a:03}.{b:03}.{c:03}.0{d:o}",
        f"{a}.{b}.{c}.{d}.",
        f"{a}.{b}.{c}.{d + 256}",
        "".join(chr(0x2460 + int(digit) - 1) if digit in "123456789" else digit for digit in str(address) + "1"),
        "".join(chr(0xFF10 + int(digit)) if digit.isdigit() else digit for digit in str(address)),
        str(address).replace(".", "\u3002"),
        str(address).replace(".", "%2e"),
    ]


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_6])
def test_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(private_addresses())
def test_a_private_address_is_private_in_every_ipv6_form(address: IPv4Address) -> None:
    assert not is_public(address)
    assert not any(is_public(form) for form in carried(address))


@given(private_addresses())
def test_no_spelling_of_a_private_address_is_taken_for_a_host(address: IPv4Address) -> None:
    literals = [
        str(address),
        *(f"[{form}]" for form in carried(address)),
        *(f"[{f.exploded}]" for f in carried(address)),
    ]
    for host in [*literals, *spellings(address)]:
        for port in ("", ":443", ":80"):
            with pytest.raises(ImageUrlRejected):
                parse(f"https://{host}{port}/latest", http=True)


@given(st.ip_addresses(v=6))
def test_nothing_outside_global_unicast_is_public_but_what_carries_a_public_ipv4(address: IPv6Address) -> None:
    if is_public(address):
        inside = int(address) >> 125 == 1
        assert inside or is_public(IPv4Address(int(address) & 0xFFFFFFFF))


@given(st.ip_addresses())
def test_what_is_public_is_global_for_the_standard_library_too(address: IPv4Address | IPv6Address) -> None:
    """Our list refuses more, never less. Addresses that carry an IPv4 one aside: it may refuse them all."""
    carries = (getattr(address, "ipv4_mapped", None), getattr(address, "sixtofour", None))
    if is_public(address) and carries == (None, None):
        assert address.is_global
