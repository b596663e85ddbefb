"""What of a pod may change, and through which door: its main one, /status, /ephemeralcontainers and /resize."""

from __future__ import annotations

from kubeling.api import names, pods
from kubeling.api.defaults.pod import pod as fill_in
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value
from kubeling.api.meta import Object, copy_json, spec_of, status_of
from kubeling.api.validation.common import IMMUTABLE, Errors, Map, checked
from kubeling.api.validation.pod import whole
from kubeling.api.validation.resize import resize

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

_MUTABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)


def pod_update(new: Object, old: Object) -> Errors:
    """A pod's update: images, a shorter deadline, more tolerations, fewer gates; and of one that is gated, where it may run."""
    after, before = spec_of(new), spec_of(old)
    if after == before:
        return
    yield from whole(new)
    before = _defaulted(before)
    for field in ("containers", "initContainers"):
        if len(after.get(field) or ()) != len(before.get(field) or ()):
            yield forbidden_value(f"spec.{field}", "pod updates may not add or remove containers")
            return
    yield from _deadline(after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    yield from _added_tolerations(after, before)
    yield from _gates(after, before)
    if before.get("schedulingGates"):
        yield from _placed(after, before)
    same = _with_mutable_of(after, before)
    if same != before:
        changed = ", ".join(sorted(f"spec.{key}" for key in {*same, *before} if same.get(key) != before.get(key)))
        detail = f"pod updates may not change fields other than {','.join(_MUTABLE)}\nchanged: {changed}"
        yield forbidden_value("spec", detail)


def _defaulted(spec: Map) -> Map:
    """The old spec as if it came in now, so that what an older server did not fill in is no change."""
    filled: Map = {"spec": copy_json(spec)}
    fill_in(filled)
    return filled["spec"]  # type: ignore[no-any-return]


def _with_mutable_of(after: Map, before: Map) -> Map:
    """The new spec with everything that may change put back."""
    same: Map = copy_json(after)
    gated = bool(before.get("schedulingGates"))
    for field in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        _put_back(same, before, field)
    if gated:
        _put_back(same, before, "nodeSelector")
        _put_back_node_affinity(same, before)
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and same.get("terminationGracePeriodSeconds") == 1:
        _put_back(same, before, "terminationGracePeriodSeconds")
    for field in ("containers", "initContainers"):
        for mine, theirs in zip(same.get(field) or (), before.get(field) or (), strict=True):
            _put_back(mine, theirs, "image")
    return same


def _put_back(target: Map, source: Map, field: str) -> None:
    if field in source:
        target[field] = source[field]
    else:
        target.pop(field, None)


def _put_back_node_affinity(same: Map, before: Map) -> None:
    affinity = dict(same.get("affinity") or {})
    _put_back(affinity, before.get("affinity") or {}, "nodeAffinity")
    if affinity or before.get("affinity") is not None:
        same["affinity"] = affinity
    else:
        same.pop("affinity", None)


def _placed(after: Map, before: Map) -> Errors:
    """A gated pod's placement becomes narrower only (KEP-3838)."""
    wanted, held = after.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(wanted.get(key) != value for key, value in held.items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        yield invalid_value("spec.nodeSelector", wanted, detail)
    new_terms, old_terms = _terms(after), _terms(before)
    path = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    if old_terms and len(old_terms) != len(new_terms):
        yield invalid_value(path, new_terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
        return
    for at, (each, former) in enumerate(zip(new_terms, old_terms, strict=False)):
        if not _only_more(each, former):
            yield invalid_value(f"{path}[{at}]", each, "only additions are allowed (no mutations or deletions)")


def _terms(spec: Map) -> list[Map]:
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return (node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []


def _only_more(new: Map, old: Map) -> bool:
    fields = ("matchExpressions", "matchFields")
    if not any(old.get(field) for field in fields):
        return not any(new.get(field) for field in fields)
    return all((new.get(field) or [])[: len(old.get(field) or [])] == (old.get(field) or []) for field in fields)


def _deadline(after: int | None, before: int | None) -> Errors:
    path = "spec.activeDeadlineSeconds"
    if after is not None:
        if before is not None and after > before:
            yield invalid_value(path, after, "must be less than or equal to previous value")
    elif before is not None:
        yield invalid_value(path, None, "must not update from a positive integer to nil value")


def _added_tolerations(after: Map, before: Map) -> Errors:
    held = [_timeless(each) for each in after.get("tolerations") or ()]
    for each in before.get("tolerations") or ():
        if _timeless(each) not in held:
            detail = "existing toleration can not be modified except its tolerationSeconds"
            yield forbidden_value("spec.tolerations", detail)
            return


def pod_door_update(new: Object, old: Object) -> Errors:
    """What came through another door: the spec holds, ephemeral containers are only ever added, and what has ended does not go on."""
    after, before = spec_of(new), spec_of(old)
    if after == before:
        yield from _status(new, old)
        return
    fixed = [] if after.get("ephemeralContainers") == before.get("ephemeralContainers") else ["ephemeral"]
    if pods.is_mirror(old):
        what = "do not support ephemeral containers" if fixed else "cannot be resized"
        yield forbidden_value("[]", f"static pods {what}")
        return
    yield from whole(new)
    yield from resize(new, old)
    held = {each.get("name"): each for each in after.get("ephemeralContainers") or ()}
    for each in before.get("ephemeralContainers") or ():
        name = each.get("name")
        if name not in held:
            yield forbidden_value("spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be removed\n')
        elif held[name] != each:
            yield forbidden_value("spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be changed\n')


def _status(new: Object, old: Object) -> Errors:
    """What the kubelet writes."""
    after, before = status_of(new), status_of(old)
    for at, each in enumerate(after.get("conditions") or ()):
        kind = each.get("type") or ""
        if kind not in ("PodScheduled", "Ready", "Initialized"):
            yield from checked(f"metadata.conditions[{at}].Type", kind, names.qualified_name)
    node = after.get("nominatedNodeName")
    if node and node != before.get("nominatedNodeName"):
        yield from checked("status.nominatedNodeName", node, names.dns1123_subdomain)
    if (after.get("qosClass") or "") != (before.get("qosClass") or ""):
        yield invalid_value("status.qosClass", after.get("qosClass") or "", IMMUTABLE)
    policy = spec_of(old).get("restartPolicy") or "Always"
    sidecars = {each.get("name") for each in spec_of(old).get("initContainers") or () if pods.is_sidecar(each)}
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        rule = "Never" if field == "ephemeralContainerStatuses" else policy
        if rule != "Always" and before.get(field):
            yield from _ended(f"status.{field}", after.get(field) or [], before[field], rule, sidecars)
    for field in ("podIPs", "hostIPs"):
        yield from _addresses(f"status.{field}", after.get(field) or [])
    hosts = after.get("hostIPs") or ()
    if hosts and hosts[0].get("ip") != after.get("hostIP"):
        yield invalid_value("status.hostIPs[0].ip", hosts[0].get("ip") or "", "must be equal to `hostIP`")


def _ended(path: str, new: list[Map], old: list[Map], policy: str, sidecars: set[str | None]) -> Errors:
    now = {each.get("name"): each for each in new}
    for at, each in enumerate(old):
        end, name = (each.get("state") or {}).get("terminated"), each.get("name")
        if end is None or name in sidecars or (policy == "OnFailure" and end.get("exitCode")):
            continue
        if name in now and (now[name].get("state") or {}).get("terminated") is None:
            yield forbidden_value(f"{path}[{at}].state", "may not be transitioned to non-terminated state")


def _addresses(path: str, found: list[Map]) -> Errors:
    given = [each.get("ip") or "" for each in found]
    for at, each in enumerate(given):
        yield from checked(f"{path}[{at}]", each, names.ip_address)
        if each in given[:at]:
            yield duplicate_value(f"{path}[{at}]", found[at])
    if len(given) > 2 or (len(given) == 2 and (":" in given[0]) == (":" in given[1])):
        yield invalid_value(path, found, "may specify no more than one IP for each IP family")


def _timeless(toleration: Map) -> Map:
    return {key: value for key, value in toleration.items() if value and key != "tolerationSeconds"}


def _gates(after: Map, before: Map) -> Errors:
    held = {each.get("name") for each in before.get("schedulingGates") or ()}
    for at, each in enumerate(after.get("schedulingGates") or ()):
        if each.get("name") not in held:
            detail = f"only deletion is allowed, but found new scheduling gate '{each.get('name') or ''}'"
            yield forbidden_value(f"spec.schedulingGates[{at}].name", detail)
