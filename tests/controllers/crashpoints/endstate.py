"""The end state of a run, in a form in which two runs can be compared: without times, uids, versions and generated names."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from kubeling.api.resources import Resource
from kubeling.client.rest import Client

Obj = dict[str, Any]
#: Lines, each an object, and how often it is there.
State = Counter[str]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
#: Of what is no more; the others say whose they are.
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TOKEN_VOLUME = re.compile(r"kube-api-access-[a-z0-9]{5}")
_ADDRESS = re.compile(r"10\.\d+\.\d+\.\d+")
_DROPPED = {"managedFields", "resourceVersion", "generation", "observedGeneration", "creationTimestamp", "selfLink"}


def _bare(value: Any) -> Any:
    """Without what differs anyway, and without what is empty: that is the same as absent."""
    if isinstance(value, dict):
        found = {key: _bare(each) for key, each in value.items() if key not in _DROPPED}
        return {key: each for key, each in found.items() if each not in (None, {}, [], 0, "")}
    if isinstance(value, list):
        return sorted((_bare(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return _TIME.sub("time", value) if isinstance(value, str) else value


async def read(client: Client, namespace: str, kinds: list[Resource]) -> State:
    """What is there now of these kinds."""
    found: list[tuple[Resource, Obj]] = []
    for kind in kinds:
        items = (await client.list(kind, namespace if kind.namespaced else None))["items"]
        found += [(kind, each) for each in items if kind.namespaced or each["metadata"]["name"].startswith(namespace)]
    # The longest first: a name may be the beginning of another.
    renamed = {each["metadata"]["uid"]: f"uid of {kind.plural}" for kind, each in found}
    renamed |= {
        each["metadata"]["name"]: each["metadata"]["generateName"] + "*"
        for _, each in found
        if each["metadata"].get("generateName")
    }
    renamed[namespace] = "ns"
    names = sorted(renamed, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, names))) if names else None
    lines: State = Counter()
    for kind, each in found:
        text = json.dumps({"kind": kind.kind, **_bare(each)}, sort_keys=True)
        text = pattern.sub(lambda match: renamed[match.group()], text) if pattern else text
        for what, said in ((_UID, "uid"), (_ADDRESS, "address"), (_TOKEN_VOLUME, "kube-api-access-*")):
            text = what.sub(said, text)
        lines[text] += 1
    return lines


def difference(wanted: State, found: State) -> str:
    """What is missing and what is too much, for people."""
    missing, surplus = wanted - found, found - wanted
    said = [f"- {count} x {line}" for line, count in sorted(missing.items())]
    return "\n".join([*said, *(f"+ {count} x {line}" for line, count in sorted(surplus.items()))])
