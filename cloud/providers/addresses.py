"""Which address each LoadBalancer Service gets: as asked for, as it has, or the lowest that is free.

The record of what is given out is the Services' own status. Should two Services ever show the same address (two controllers decided at the same
moment) the younger one has to take another.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from kubeling.api.meta import namespace_of, spec_of, status_of, uid_of
from kubeling.cloud.provider import Obj, ProviderError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def recorded(service: Obj) -> str | None:
    """The address in a Service's status."""
    ingress = (status_of(service).get("loadBalancer") or {}).get("ingress") or ()
    return next((each["ip"] for each in ingress if each.get("ip")), None)


def _age(service: Obj) -> tuple[str, str]:
    return service["metadata"].get("creationTimestamp") or "", uid_of(service)


def choose(service: Obj, others: Iterable[Obj], held: Mapping[str, str], network: Network) -> str:
    """The Service's address. `held` maps addresses that we serve already to the uids of their Services (their status may not show it yet).

    ProviderError where the wish cannot be met, or the range is used up.
    """
    me = uid_of(service)
    taken = {address for address, uid in held.items() if uid != me}
    older: set[str] = set()
    for each in others:
        address = recorded(each)
        if uid_of(each) == me or address is None:
            continue
        taken.add(address)
        if _age(each) < _age(service):
            older.add(address)
    wish = spec_of(service).get("loadBalancerIP")
    if wish:
        return _wished(wish, taken, network)
    mine = recorded(service) or next((address for address, uid in held.items() if uid == me), None)
    in_range = mine is not None and _is_in(mine, network)
    if mine is not None and in_range and mine not in older and held.get(mine, me) == me:
        return mine
    return _lowest_free(network, taken)


def _wished(wish: str, taken: set[str], network: Network) -> str:
    if not _is_in(wish, network):
        raise ProviderError(f"spec.loadBalancerIP {wish} is not in {network}: choose one from there, or leave it out")
    if wish in taken:
        raise ProviderError(f"spec.loadBalancerIP {wish} is taken by another Service: choose another, or leave it out")
    return wish


def _is_in(address: str, network: Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False


def _lowest_free(network: Network, taken: set[str]) -> str:
    for each in network.hosts():
        if str(each) not in taken:
            return str(each)
    raise ProviderError(
        f"all addresses of {network} are taken: delete a Service of type LoadBalancer, or use a larger --load-balancer-cidr"
    )


def allowed(address: str, ranges: Sequence[Network]) -> bool:
    """Whether a client may come in: `loadBalancerSourceRanges`, where none are given everybody."""
    client = ipaddress.ip_address(address)
    return not ranges or any(client in each for each in ranges)


def source_ranges(service: Obj) -> tuple[Network, ...]:
    """ProviderError for what is not a CIDR."""
    found = spec_of(service).get("loadBalancerSourceRanges") or ()
    try:
        return tuple(ipaddress.ip_network(each.strip(), strict=False) for each in found)
    except ValueError as error:
        raise ProviderError(
            f"spec.loadBalancerSourceRanges of {namespace_of(service)}/{service['metadata']['name']}: {error}"
        ) from error
