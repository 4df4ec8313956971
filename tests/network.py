"""A network of one's own that leads nowhere, and a record of everything that was sent to it."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET, sched.h
_PACKET, _STATISTICS = 263, 6  # SOL_PACKET and PACKET_STATISTICS, linux/if_packet.h
_ALL = 3  # ETH_P_ALL, linux/if_ether.h
_FIRST_BYTES = 512  # of each packet: more than addresses, ports and a name take
_BUFFER = 64 << 20
_ATTACH_FILTER, _BUFFER_FORCED = 26, 33  # SO_ATTACH_FILTER and SO_RCVBUFFORCE, asm-generic/socket.h
_DNS = 53
_PROTOCOLS = {6: "tcp", 17: "udp"}
_OWN = IPv4Address("192.0.2.2"), IPv6Address("2001:db8::2")  # for documentation, RFC 5737 and 3849
# Every address of the world is this machine's: what is sent anywhere arrives at `lo`, and is refused there at once.
_SET_UP = (
    "ip link set lo up",
    "ip addr add 192.0.2.2/32 dev lo",
    "ip -6 addr add 2001:db8::2/128 dev lo nodad",
    "ip route add local default dev lo src 192.0.2.2",
    "ip -6 route add local default dev lo src 2001:db8::2",
)


@dataclass(frozen=True)
class Packet:
    """Sent by a process to an address that is not its machine's own, or a DNS query to whomever."""

    protocol: str
    to: str
    port: int
    name: str = ""
    """Which name a DNS query is for."""


class Record:
    """What was sent since the network was there: by any process in it, whichever language it is written in."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def packets(self) -> list[Packet]:
        """Those not yet told of."""
        packets = []
        while True:
            try:
                content, (_, _, kind, *_) = self._wire.recvfrom(_FIRST_BYTES)
            except BlockingIOError:
                break
            if kind == socket.PACKET_OUTGOING and (packet := _outward(content)) is not None:
                packets.append(packet)
        _, dropped = struct.unpack("II", self._wire.getsockopt(_PACKET, _STATISTICS, 8))
        assert not dropped, f"{dropped} packets were not recorded"
        return packets


@contextmanager
def recorded() -> Iterator[Record]:
    """Inside, this thread and the processes that it starts are on a network of their own. Needs root and iproute2."""
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "no network of its own")
        try:
            for command in _SET_UP:
                subprocess.run(command.split(), check=True)
            with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL)) as wire:
                wire.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCED, _BUFFER)
                _keep_first_bytes(wire)
                wire.setblocking(False)
                yield Record(wire)
        finally:
            libc.setns(outside, _NEW_NETWORK)
    finally:
        os.close(outside)


def _keep_first_bytes(wire: socket.socket) -> None:
    """A filter of one instruction, BPF_RET: else large answers on the loopback would fill the buffer."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, _FIRST_BYTES))
    wire.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(instruction)))


def _outward(packet: bytes) -> Packet | None:
    if packet[0] >> 4 == 4:
        protocol, header = packet[9], (packet[0] & 15) * 4
        source, to = ip_address(packet[12:16]), ip_address(packet[16:20])
    else:
        protocol, header = packet[6], 40
        source, to = ip_address(packet[8:24]), ip_address(packet[24:40])
    if protocol not in _PROTOCOLS:
        return None
    port = int.from_bytes(packet[header + 2 : header + 4])
    here = to.is_loopback or to in _OWN or not (source.is_loopback or source in _OWN)
    if here and port != _DNS:
        return None
    name = _queried(packet[header + 8 :]) if (_PROTOCOLS[protocol], port) == ("udp", _DNS) else ""
    return Packet(_PROTOCOLS[protocol], str(to), port, name)


def _queried(query: bytes) -> str:
    """The name in a DNS query (RFC 1035, 4.1.2)."""
    labels, place = [], 12
    while length := query[place]:
        labels.append(query[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(labels)
