"""ControllerRevisions: the templates that a DaemonSet or StatefulSet had, so that pods can be told apart by them and a rollback finds its way.

A revision's name follows from its data, so one template has one revision however often it is written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubeling.api.errors import ApiError, is_already_exists, is_not_found
from kubeling.api.hashing import canonical_json, template_hash
from kubeling.api.meta import copy_json, labels_of, name_of, namespace_of, resource_version_of, spec_of, status_of, uid_of
from kubeling.api.owner import is_controlled_by, make_controller_ref
from kubeling.api.resources import CONTROLLER_REVISIONS, Resource
from kubeling.client.rest import Client
from kubeling.controllers.context import Obj

HASH_LABEL = "controller-revision-hash"


class HashCollision(Exception):
    """The name that follows from the data is taken by something else: count it in `status.collisionCount`, and try again."""


def data_of(owner: Obj) -> Obj:
    """What a revision keeps: a patch that puts the template back."""
    template = copy_json(spec_of(owner).get("template") or {})
    return {"spec": {"template": {**template, "$patch": "replace"}}}


def number_of(revision: Obj) -> int:
    return int(revision.get("revision") or 0)


def find(owner: Obj, revisions: Iterable[Obj]) -> Obj | None:
    """The revision of the owner's present template; the newest, should there be several."""
    wanted = canonical_json(data_of(owner))
    same = [each for each in revisions if canonical_json(each.get("data") or {}) == wanted]
    return max(same, key=number_of, default=None)


def body_for(owner: Obj, owners: Resource, number: int) -> Obj:
    """The revision of the present template, not yet written."""
    data = data_of(owner)
    hashed = template_hash(data, status_of(owner).get("collisionCount"))
    labels = ((spec_of(owner).get("template") or {}).get("metadata") or {}).get("labels") or {}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{name_of(owner)}-{hashed}",
            "namespace": namespace_of(owner),
            "labels": {**labels, HASH_LABEL: hashed},
            "ownerReferences": [make_controller_ref(owner, owners.group_version, owners.kind)],
        },
        "data": data,
        "revision": number,
    }


@dataclass(frozen=True, slots=True)
class History:
    """The revision of the present template, and the others."""

    current: Obj
    old: Sequence[Obj]

    @property
    def hash(self) -> str:
        """The label value by which the pods of the present template are known."""
        return labels_of(self.current).get(HASH_LABEL) or name_of(self.current).rpartition("-")[2]


async def sync(client: Client, owner: Obj, owners: Resource, revisions: Sequence[Obj]) -> History:
    """Have a revision for the present template, with the highest number. Raises HashCollision."""
    found = find(owner, revisions)
    highest = max((number_of(each) for each in revisions), default=0)
    if found is None:
        found = await _create(client, body_for(owner, owners, highest + 1), owner)
    elif number_of(found) < highest:
        # An older template is back: it becomes the newest.
        meta = {"uid": uid_of(found), "resourceVersion": resource_version_of(found)}
        body = {"metadata": meta, "revision": highest + 1}
        found = await client.patch(CONTROLLER_REVISIONS, name_of(found), body, namespace_of(found))
    return History(found, [each for each in revisions if name_of(each) != name_of(found)])


async def _create(client: Client, body: Obj, owner: Obj) -> Obj:
    try:
        return await client.create(CONTROLLER_REVISIONS, body, namespace_of(body))
    except ApiError as error:
        if not is_already_exists(error):
            raise
    live = await client.get(CONTROLLER_REVISIONS, name_of(body), namespace_of(body))
    if is_controlled_by(live, owner) and canonical_json(live.get("data") or {}) == canonical_json(body["data"]):
        return live
    raise HashCollision(name_of(body))


def to_drop(history: History, used: Iterable[str], limit: int | None) -> list[Obj]:
    """The oldest revisions beyond the limit that no pod has; `used` are label values of pods (hashes or names)."""
    in_use = set(used)
    spare = [each for each in history.old if name_of(each) not in in_use and labels_of(each).get(HASH_LABEL) not in in_use]
    spare.sort(key=number_of)
    keep = 10 if limit is None else limit
    return spare[: max(0, len(spare) - keep)]


async def drop(client: Client, revisions: Iterable[Obj]) -> None:
    """Delete these."""
    for each in revisions:
        try:
            await client.delete(CONTROLLER_REVISIONS, name_of(each), namespace_of(each), uid=uid_of(each))
        except ApiError as error:
            if not is_not_found(error):
                raise
