"""Owner references: who made an object, and with whom the garbage collector lets it go."""

from __future__ import annotations

from typing import Any

from kubeling.api.meta import Object, controller_of, name_of, uid_of


def make_owner_reference(owner: Object, api_version: str = "", kind: str = "") -> dict[str, Any]:
    """A plain reference. Objects out of a list carry neither apiVersion nor kind: pass them."""
    return {
        "apiVersion": api_version or owner["apiVersion"],
        "kind": kind or owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
    }


def make_controller_ref(owner: Object, api_version: str = "", kind: str = "") -> dict[str, Any]:
    """The reference of the one controller, which also holds up the owner's foreground deletion."""
    return {**make_owner_reference(owner, api_version, kind), "controller": True, "blockOwnerDeletion": True}


def is_controlled_by(obj: Object, owner: Object) -> bool:
    """Whether `owner` is the controller of `obj`; by uid, so a namesake made later is not."""
    found = controller_of(obj)
    return found is not None and found.get("uid") == uid_of(owner)
