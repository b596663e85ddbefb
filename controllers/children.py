"""Owners and their children: which objects are mine, which may I adopt, which must I let go, and how a pod is made from a template.

An object belongs to the controller that its owner reference names by uid, never to a namesake. What matches the selector and has no controller is
adopted; what no longer matches is released. Every such write carries the child's uid and resourceVersion, so it changes the object that was judged
and no other, and adoption asks the live API first whether the owner is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kubeling.api import names
from kubeling.api.errors import is_invalid, is_not_found
from kubeling.api.labels import NOTHING, Selector, from_labels, from_selector
from kubeling.api.meta import (
    controller_of,
    copy_json,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owner_references_of,
    resource_version_of,
    spec_of,
    uid_of,
)
from kubeling.api.owner import make_controller_ref
from kubeling.api.resources import Resource
from kubeling.client.controller import Request, request_for
from kubeling.client.rest import Client
from kubeling.client.store import Store
from kubeling.controllers.context import Obj, orphans


@dataclass(slots=True)
class Family:
    """The candidates, judged."""

    mine: list[Obj] = field(default_factory=list)
    adopt: list[Obj] = field(default_factory=list)
    release: list[Obj] = field(default_factory=list)


def judge(owner: Obj, selector: Selector, candidates: Iterable[Obj]) -> Family:
    """Sort candidates into the owner's own, those to adopt and those to release. An owner on its way out changes nothing."""
    found = Family()
    leaving = is_deleting(owner)
    for each in candidates:
        reference = controller_of(each)
        matches = selector.matches(labels_of(each))
        if reference is not None:
            if reference.get("uid") != uid_of(owner):
                continue
            if matches:
                found.mine.append(each)
            elif leaving:
                continue
            else:
                found.release.append(each)
        elif matches and not leaving and not is_deleting(each):
            found.adopt.append(each)
    return found


def selector_of(owner: Obj) -> Selector:
    """The selector of an owner; one that selects everything selects nothing, as the API refuses it. A ReplicationController's is a plain map."""
    found = spec_of(owner).get("selector")
    if not found:
        return NOTHING
    selector = from_selector(found) if "matchLabels" in found or "matchExpressions" in found else from_labels(found)
    return NOTHING if selector.everything else selector


def owners_of_orphan(owners: Store) -> Callable[[Obj], Iterable[Request]]:
    """Which of these owners may adopt a child that nobody controls: a mapping for :meth:`kubeling.client.controller.Reconciler.watches`."""

    def find(child: Obj) -> Iterable[Request]:
        if controller_of(child) is not None or is_deleting(child):
            return ()
        found = owners.in_namespace(namespace_of(child))
        return [request_for(each) for each in found if selector_of(each).matches(labels_of(child))]

    return find


def candidates(store: Store, owner: Obj) -> list[Obj]:
    """From an informer with the index "controller": what the owner controls, and what nobody controls in its namespace."""
    return store.by_index("controller", uid_of(owner)) + store.by_index("controller", orphans(namespace_of(owner)))


async def claim(
    client: Client,
    owners: Resource,
    owner: Obj,
    selector: Selector,
    resource: Resource,
    store: Store,
    *,
    member: Callable[[Obj], bool] = lambda child: True,
) -> list[Obj]:
    """The owner's children after adoption and release. What is no `member` is neither."""
    family = judge(owner, selector, filter(member, candidates(store, owner)))
    for each in family.release:
        rest = [reference for reference in owner_references_of(each) if reference.get("uid") != uid_of(owner)]
        await _set_owners(client, resource, each, rest)
    if family.adopt and await still_there(client, owners, owner):
        reference = make_controller_ref(owner, owners.group_version, owners.kind)
        for each in family.adopt:
            adopted = await _set_owners(client, resource, each, [*owner_references_of(each), reference])
            if adopted is not None:
                family.mine.append(adopted)
    return family.mine


async def still_there(client: Client, owners: Resource, owner: Obj) -> bool:
    """Ask the live API, not the cache: the owner with this uid exists and is not on its way out."""
    try:
        live = await client.get(owners, name_of(owner), namespace_of(owner) or None)
    except Exception as error:
        if is_not_found(error):
            return False
        raise
    return uid_of(live) == uid_of(owner) and not is_deleting(live)


async def _set_owners(client: Client, resource: Resource, child: Obj, references: list[Obj]) -> Obj | None:
    """Compare and set; None where the child is gone or may not be changed. A conflict is raised: look again."""
    meta = {"uid": uid_of(child), "resourceVersion": resource_version_of(child), "ownerReferences": references or None}
    try:
        return await client.patch(resource, name_of(child), {"metadata": meta}, namespace_of(child) or None)
    except Exception as error:
        if is_not_found(error) or is_invalid(error):
            return None
        raise


def child_prefix(owner_name: str) -> str:
    """What generated names of children begin with: the dash goes where the name would no longer be valid with it."""
    prefix = f"{owner_name}-"
    return prefix if not names.dns1123_subdomain(prefix + "x") else owner_name


def pod_from_template(template: Obj, owner: Obj, owners: Resource, name: str) -> Obj:
    """A pod of that name as `template` describes it, controlled by `owner`."""
    meta = template.get("metadata") or {}
    made: Obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "generateName": child_prefix(name_of(owner)),
            "namespace": namespace_of(owner),
            "labels": dict(meta.get("labels") or {}),
            "ownerReferences": [make_controller_ref(owner, owners.group_version, owners.kind)],
        },
        "spec": copy_json(template.get("spec") or {}),
    }
    if meta.get("annotations"):
        made["metadata"]["annotations"] = dict(meta["annotations"])
    if meta.get("finalizers"):
        made["metadata"]["finalizers"] = list(meta["finalizers"])
    return made


def oldest_first(objects: Iterable[Obj]) -> list[Obj]:
    """By creation, then by name."""
    return sorted(objects, key=lambda each: (each["metadata"].get("creationTimestamp") or "", name_of(each)))
