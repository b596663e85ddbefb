"""What happens to an object between the request and the store: identity, defaults, admission, strategy, ownership, validation.

Creation and every kind of update come through here, whichever verb asked for them; :mod:`kubeling.apiserver.registry.store` then writes the outcome if
nothing has changed meanwhile. Objects are of the stored version.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kubeling.api import errors, names, resources
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, copy_json, metadata_of
from kubeling.api.times import format_time
from kubeling.apiserver import convert
from kubeling.apiserver.admission.chain import UNHEARD, Attributes, Notes
from kubeling.apiserver.authn.user import User
from kubeling.apiserver.context import Context
from kubeling.apiserver.registry import managed
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.store import Change, Store, Stored

_NAME_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Options:
    """How a write was asked for."""

    user: User
    manager: str
    dry_run: bool = False
    subresource: str = ""
    #: The door through which the strategy sees the update, where that is not the subresource of the URL (scale changes the spec).
    door: str | None = None
    #: Whose fields these are: those of a server-side apply are minded by its own code.
    operation: Literal["Update", "Apply"] = "Update"
    #: Who hears warnings, and gets annotations for the audit log.
    notes: Notes = UNHEARD
    #: The CreateOptions, UpdateOptions or PatchOptions of the request, for webhooks.
    sent: Mapping[str, Any] = field(default_factory=dict)


class Companions(Protocol):
    """Keys that are written in the same Txn as an object: the addresses and ports of a Service."""

    async def on_create(self, obj: Object) -> Change: ...

    async def on_update(self, new: Object, old: Object) -> Change: ...

    async def on_delete(self, old: Object) -> Change: ...


async def create(context: Context, served: Served, store: Store, namespace: str, obj: Object, options: Options) -> Stored:
    """Create `obj`. Raises ApiError."""
    metadata = obj.setdefault("metadata", {})
    _check_new(served, namespace, obj)
    given = metadata.get("name") or ""
    base = metadata.get("generateName") or ""
    attempts = _NAME_ATTEMPTS if base and not given else 1
    for attempt in range(attempts):
        candidate = copy_json(obj) if attempt + 1 < attempts else obj
        if not given and base:
            candidate["metadata"]["name"] = names.generate(base, context.random)
        try:
            return await _create(context, served, store, namespace, candidate, options)
        except ApiError as error:
            if attempt + 1 == attempts or not errors.is_already_exists(error):
                raise
    raise errors.internal("no free name was found")


def _check_new(served: Served, namespace: str, obj: Object) -> None:
    metadata = obj["metadata"]
    if metadata.get("resourceVersion"):
        raise errors.bad_request("resourceVersion should not be set on objects to be created")
    if served.stored.namespaced:
        if (metadata.get("namespace") or namespace) != namespace:
            raise errors.bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)


async def _create(context: Context, served: Served, store: Store, namespace: str, obj: Object, options: Options) -> Stored:
    rules = served.rules
    now = context.clock.now()
    metadata = obj["metadata"]
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = format_time(now)
    name = metadata.get("name") or ""
    rules.default(obj)
    attributes = Attributes(
        "CREATE",
        served.resource,
        options.subresource,
        namespace,
        name,
        options.user,
        obj,
        None,
        options.dry_run,
        options.sent,
        options.notes,
    )
    await context.admission.admit(attributes)
    rules.after_admission(obj)
    rules.strategy.prepare_for_create(obj, now)
    if served.resource == resources.CERTIFICATE_SIGNING_REQUESTS:
        _note_requestor(obj, options.user)
    managed.on_write(served, None, obj, options, now)
    change = Change(obj)
    if rules.companions is not None:
        change = await rules.companions.on_create(obj)
    wrong = rules.validate_create(obj)
    if wrong:
        raise errors.invalid(served.resource.kind, served.resource.group, name, wrong)
    _warn(served, obj, None, options)
    await context.admission.validate(attributes)
    change.obj = await convert.closed(served, obj)
    change.guard = attributes.guard
    return await store.create(namespace, name, change, options.dry_run)


def _warn(served: Served, new: Object, old: Object | None, options: Options) -> None:
    if options.notes is not UNHEARD:
        for text in served.rules.notices(new, old):
            options.notes.warn(text)


def _note_requestor(obj: Object, user: User) -> None:
    """Who asks for a certificate is not what the request says it is."""
    spec = obj.setdefault("spec", {})
    for each in ("uid", "groups", "extra"):
        spec.pop(each, None)
    spec["username"] = user.name
    spec |= {key: value for key, value in user.info().items() if key != "username"}


async def prepare_update(
    context: Context, served: Served, namespace: str, name: str, new: Object, old: Object, options: Options
) -> Change:
    """What to write in place of `old`, given the `new` that a client wants; neither is used again. Raises ApiError."""
    rules, resource = served.rules, served.resource
    metadata, before = new.setdefault("metadata", {}), old["metadata"]
    _check_identity(served, name, metadata, before, options)
    now = context.clock.now()
    metadata["name"] = name
    if before.get("namespace"):
        metadata["namespace"] = before["namespace"]
    metadata["uid"] = before["uid"]
    rules.default(new)
    # An earlier version of ours may have stored it, which left other things unsaid.
    rules.default(old)
    attributes = Attributes(
        "UPDATE",
        resource,
        options.subresource,
        namespace,
        name,
        options.user,
        new,
        old,
        options.dry_run,
        options.sent,
        options.notes,
    )
    await context.admission.admit(attributes)
    rules.after_admission(new)
    door = options.subresource if options.door is None else options.door
    rules.strategy.prepare_for_subresource_update(door, new, old)
    await managed.on_update(served, old, new, options, now)
    change = Change(new)
    if rules.companions is not None and not door:
        change = await rules.companions.on_update(new, old)
    wrong = rules.validate_update(new, old, door)
    if wrong:
        raise errors.invalid(resource.kind, resource.group, name, wrong)
    if not door:
        _warn(served, new, old, options)
    await context.admission.validate(attributes)
    change.guard = attributes.guard
    if is_finished(served, new):
        return await removal(served, old)
    change.obj = await convert.closed(served, new)
    return change


async def removal(served: Served, old: Object) -> Change:
    """The change that takes an object away, with all that it held."""
    companions = served.rules.companions
    return Change(None) if companions is None else await companions.on_delete(old)


def is_finished(served: Served, obj: Object) -> bool:
    """Whether a deleted object is held by nothing any more."""
    metadata = metadata_of(obj)
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if served.resource.kind == "Namespace" and not served.resource.group and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def _check_identity(served: Served, name: str, metadata: Object, before: Object, options: Options) -> None:
    resource = served.resource
    given = metadata.get("name") or ""
    if given and given != name:
        raise errors.bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
    namespace = metadata.get("namespace") or ""
    if namespace and namespace != (before.get("namespace") or "") and resource.namespaced:
        raise errors.bad_request("the namespace of the provided object does not match the namespace sent on the request")
    uid = metadata.get("uid")
    if uid and uid != before["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before['uid']}"
        raise errors.conflict(resource.group, resource.plural, name, why)
    version = metadata.get("resourceVersion")
    if version:
        if version != before["resourceVersion"]:
            raise errors.conflict(resource.group, resource.plural, name)
    elif not served.rules.strategy.allow_unconditional_update:
        wrong = errors.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
        raise errors.invalid(resource.kind, resource.group, name, [wrong])
