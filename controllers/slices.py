"""Packing endpoints into EndpointSlices with little churn: an endpoint stays in the slice where it is, and no slice is written that need not be.

First every existing slice is brought up to date in place (endpoints that left are dropped, those that changed replaced). What is new fills slices that
are written anyway, then the fullest one with room for all of it, then new ones. Names follow from what is in them, so that two controllers that
decide the same make one slice, not two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kubeling.api.hashing import canonical_json, fnv1a_32, safe_encode
from kubeling.api.meta import copy_json, is_deleting, labels_of, name_of
from kubeling.controllers.context import Obj

MAX_ENDPOINTS = 100

#: What one EndpointPort says: name, protocol, number, application protocol.
Ports = tuple[tuple[str, str, int | None, str | None], ...]


@dataclass(slots=True)
class Changes:
    """What to write. `update` and `delete` hold existing slices (updated copies, respectively as they are)."""

    create: list[Obj] = field(default_factory=list)
    update: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)


@dataclass(slots=True)
class _Bin:
    """A slice in the making."""

    slice: Obj | None
    endpoints: list[Obj]
    dirty: bool = False


def ports_of(slice_: Obj) -> Ports:
    """The ports of a slice in the form in which they are compared."""
    found = [
        (each.get("name") or "", each.get("protocol") or "", each.get("port"), each.get("appProtocol"))
        for each in slice_.get("ports") or ()
    ]
    return tuple(sorted(found, key=repr))


def identity(endpoint: Obj) -> str:
    """What makes an endpoint the same one in another state: its pod, or else its address."""
    target = endpoint.get("targetRef") or {}
    return str(target.get("uid") or "") or "/".join(endpoint.get("addresses") or ())


def pack(
    prefix: str,
    seed: str,
    labels: Mapping[str, str],
    template: Obj,
    wanted: Mapping[tuple[str, Ports], Sequence[Obj]],
    existing: Sequence[Obj],
    *,
    limit: int = MAX_ENDPOINTS,
    keep_empty: Mapping[str, Ports] | None = None,
) -> Changes:
    """Plan the writes that turn `existing` into slices that hold `wanted`: (address type, ports) → endpoints.

    `template` holds the metadata that every slice gets (namespace, annotations, ownerReferences) and `labels` its labels; `keep_empty` names the
    ports of the one slice without endpoints that an address type shall have where it has no endpoints at all.
    """
    changes = Changes()
    groups: dict[tuple[str, Ports], list[Obj]] = {}
    for each in existing:
        if is_deleting(each):
            continue
        groups.setdefault((each.get("addressType") or "", ports_of(each)), []).append(each)
    goals: dict[tuple[str, Ports], Sequence[Obj]] = {key: found for key, found in wanted.items() if found}
    for family, ports in (keep_empty or {}).items():
        if not any(key[0] == family for key in goals):
            goals[family, ports] = ()
    taken = {name_of(each) for each in existing}
    for key in sorted({*groups, *goals}, key=repr):
        here = sorted(groups.get(key, ()), key=name_of)
        if key not in goals:
            changes.delete += here
            continue
        bins = _fill(here, goals[key], limit, labels, template)
        _emit(bins, changes, key, prefix, seed, labels, template, taken)
    return changes


def _fill(here: Sequence[Obj], wanted: Sequence[Obj], limit: int, labels: Mapping[str, str], template: Obj) -> list[_Bin]:
    missing = {identity(each): each for each in wanted}
    bins: list[_Bin] = []
    for each in here:
        kept: list[Obj] = []
        dirty = not _same_metadata(each, labels, template)
        for endpoint in each.get("endpoints") or ():
            fresh = missing.pop(identity(endpoint), None)
            if fresh is None:
                dirty = True  # It left, or an earlier slice has it already.
                continue
            dirty = dirty or not _same_endpoint(endpoint, fresh)
            kept.append(fresh)
        bins.append(_Bin(each, kept, dirty))
    rest = list(missing.values())
    for each_bin in bins:
        if each_bin.dirty and each_bin.endpoints:
            rest = _pour(each_bin, rest, limit)
    if rest:
        roomy = [each for each in bins if not each.dirty and limit - len(each.endpoints) >= len(rest)]
        if roomy:
            rest = _pour(max(roomy, key=lambda each: len(each.endpoints)), rest, limit)
    for each_bin in bins:
        if rest and not each_bin.endpoints:
            rest = _pour(each_bin, rest, limit)  # Emptied, and used anew rather than deleted.
    while rest:
        another = _Bin(None, [], True)
        bins.append(another)
        rest = _pour(another, rest, limit)
    if not wanted and not bins:
        bins.append(_Bin(None, [], True))
    return bins


def _pour(into: _Bin, rest: list[Obj], limit: int) -> list[Obj]:
    room = max(0, limit - len(into.endpoints))
    if room and rest:
        into.endpoints += rest[:room]
        into.dirty = True
    return rest[room:]


def _emit(
    bins: list[_Bin],
    changes: Changes,
    key: tuple[str, Ports],
    prefix: str,
    seed: str,
    labels: Mapping[str, str],
    template: Obj,
    taken: set[str],
) -> None:
    some = any(each.endpoints for each in bins)
    kept_one = False
    for each in bins:
        if not each.endpoints and (some or kept_one):
            if each.slice is not None:
                changes.delete.append(each.slice)
            continue
        kept_one = True
        if not each.dirty:
            continue
        if each.slice is None:
            name = _fresh_name(prefix, seed, key, taken)
            body = {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**copy_json(template), "name": name, "generateName": prefix, "labels": dict(labels)},
                "addressType": key[0],
                "ports": [_port(port) for port in key[1]],
                "endpoints": each.endpoints,
            }
            changes.create.append(body)
        else:
            meta = {**each.slice["metadata"], **copy_json(template), "labels": dict(labels)}
            changes.update.append({**each.slice, "metadata": meta, "endpoints": each.endpoints})


def _fresh_name(prefix: str, seed: str, key: tuple[str, Ports], taken: set[str]) -> str:
    number = 0
    while True:
        name = prefix[:247] + _suffix(seed, key, number)
        if name not in taken:
            taken.add(name)
            return name
        number += 1


def _suffix(seed: str, key: tuple[str, Ports], number: int) -> str:
    value = fnv1a_32(canonical_json([seed, key[0], [list(each) for each in key[1]], number]))
    return safe_encode(str(value))[-5:].rjust(5, "b")


def _port(port: tuple[str, str, int | None, str | None]) -> Obj:
    name, protocol, number, app = port
    found: Obj = {"name": name, "protocol": protocol, "port": number}
    if app is not None:
        found["appProtocol"] = app
    return {field: value for field, value in found.items() if value is not None}


def _same_endpoint(left: Obj, right: Obj) -> bool:
    return _bare(left) == _bare(right)


def _bare(endpoint: Obj) -> Obj:
    return {key: value for key, value in endpoint.items() if value not in (None, {}, [])}


def _same_metadata(slice_: Obj, labels: Mapping[str, str], template: Obj) -> bool:
    meta = slice_["metadata"]
    owners = [each.get("uid") for each in meta.get("ownerReferences") or ()]
    wanted = [each.get("uid") for each in template.get("ownerReferences") or ()]
    return labels_of(slice_) == dict(labels) and owners == wanted
