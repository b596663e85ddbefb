"""Functions on IP addresses and ranges."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface
from typing import Any

from kubeling.api.cel.values import Function, make

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _address(text: str) -> Address:
    """Raises ValueError. An IPv4 address in IPv6 clothes and one with a zone are not taken."""
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(
            f'IP Address "{text}" parse error during conversion from string: ParseAddr("{text}"): unable to parse IP'
        ) from None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        raise ValueError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    if "%" in text:
        raise ValueError(f'IP address "{text}" with zone value is not allowed')
    return found


def _network(text: str) -> Any:
    """Raises ValueError."""
    if "/" not in text:
        raise ValueError(f"network address parse error during conversion from string: netip.ParsePrefix(\"{text}\"): no '/'")
    try:
        found = ip_interface(text)
    except ValueError as error:
        raise ValueError(f"network address parse error during conversion from string: {error}") from None
    _address(str(found.ip))
    return found


def _holds(work: Callable[[str], Any]) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        try:
            work(text)
        except ValueError:
            return False
        return True

    return holds


def _ip(text: str) -> Any:
    return make("ip", text=str(_address(text)))


def _cidr(text: str) -> Any:
    return make("cidr", text=str(_network(text)))


def _of(value: Any) -> Address:
    return ip_address(value.text)


def _is_link_local_multicast(value: Any) -> bool:
    found = _of(value)
    if isinstance(found, IPv4Address):
        return found in IPv4Network("224.0.0.0/24")
    return found.is_multicast and found.packed[1] & 0x0F == 2


def _is_global_unicast(value: Any) -> bool:
    found = _of(value)
    if isinstance(found, IPv4Address) and found == IPv4Address("255.255.255.255"):
        return False
    return not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local)


def _contains_ip(value: Any, other: Address) -> bool:
    network = _network(value.text).network
    return bool(other.version == network.version and other in network)


def _contains_cidr(value: Any, other: Any) -> bool:
    network, inner = _network(value.text).network, other
    return bool(inner.version == network.version and inner.network.subnet_of(network))


FUNCTIONS: list[Function] = [
    ("ip", False, ("string",), "ip", _ip),
    ("isIP", False, ("string",), "bool", _holds(_address)),
    ("ip.isCanonical", False, ("string",), "bool", lambda text: str(_address(text)) == text),
    ("family", True, ("ip",), "int", lambda value: _of(value).version),
    ("isUnspecified", True, ("ip",), "bool", lambda value: _of(value).is_unspecified),
    ("isLoopback", True, ("ip",), "bool", lambda value: _of(value).is_loopback),
    ("isLinkLocalMulticast", True, ("ip",), "bool", _is_link_local_multicast),
    ("isLinkLocalUnicast", True, ("ip",), "bool", lambda value: _of(value).is_link_local),
    ("isGlobalUnicast", True, ("ip",), "bool", _is_global_unicast),
    ("cidr", False, ("string",), "cidr", _cidr),
    ("isCIDR", False, ("string",), "bool", _holds(_network)),
    ("containsIP", True, ("cidr", "string"), "bool", lambda value, text: _contains_ip(value, _address(text))),
    ("containsIP", True, ("cidr", "ip"), "bool", lambda value, other: _contains_ip(value, _of(other))),
    ("containsCIDR", True, ("cidr", "string"), "bool", lambda value, text: _contains_cidr(value, _network(text))),
    ("containsCIDR", True, ("cidr", "cidr"), "bool", lambda value, other: _contains_cidr(value, _network(other.text))),
    ("ip", True, ("cidr",), "ip", lambda value: make("ip", text=str(_network(value.text).ip))),
    ("masked", True, ("cidr",), "cidr", lambda value: make("cidr", text=str(_network(value.text).network))),
    ("prefixLength", True, ("cidr",), "int", lambda value: _network(value.text).network.prefixlen),
]
