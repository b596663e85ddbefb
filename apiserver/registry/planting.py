"""Many objects at once: what a server brings to a store that has none of it.

A new cluster gets some 250 objects from its first apiserver: roles, flow schemas, APIServices, namespaces. Written one by one they were a tenth of a second of its start. So they
are made as the pipeline makes them, but for admission, which has nothing to say about them, and written in a few Txns on the condition that none of them is there.
Where one is, nothing is written, and the caller looks after each by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

from kubeling.api import errors, resources
from kubeling.api.meta import Object, copy_json
from kubeling.api.times import format_time
from kubeling.apiserver.authn.user import MASTERS, User
from kubeling.apiserver.cache.entry import encode
from kubeling.apiserver.context import Context
from kubeling.apiserver.registry import managed
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.pipeline import Options
from kubeling.apiserver.registry.store import Store
from kubeling.apiserver.storage.kv import Write

#: etcd takes 128 operations in a Txn.
_OPERATIONS = 100
OPTIONS = Options(User("system:apiserver", (MASTERS,)), "kube-apiserver")


def place(context: Context, obj: Object) -> tuple[Served, Store]:
    """Where an object belongs."""
    resource = resources.by_kind(obj["apiVersion"], obj["kind"])
    assert resource is not None
    served = context.kinds.find(resource.group, resource.version, resource.plural)
    assert served is not None
    assert served.store is not None
    return served, served.store


async def plant(
    context: Context, wanted: Sequence[Object], finish: Callable[[Object], None] | None = None
) -> list[Object] | None:
    """Write all of `wanted` (left as they are) and return what was made of them; None where some of it was there.

    In that case the first hundreds may have been written. `finish` is called with each before it is written, for its status. Raises StoreError.
    """
    now = context.clock.now()
    made, writes = [], []
    for each in wanted:
        served, store = place(context, each)
        obj = _made(served, copy_json(each), now)
        if finish is not None:
            finish(obj)
        made.append(obj)
        writes.append(Write(store.key(obj["metadata"].get("namespace") or "", obj["metadata"]["name"]), encode(obj), 0))
    for at in range(0, len(writes), _OPERATIONS):
        if not (await context.kv.commit(writes[at : at + _OPERATIONS])).done:
            return None
    return made


def _made(served: Served, obj: Object, now: datetime) -> Object:
    metadata = obj["metadata"]
    metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": format_time(now)}
    served.rules.default(obj)
    served.rules.after_admission(obj)
    served.rules.strategy.prepare_for_create(obj, now)
    managed.on_write(served, None, obj, OPTIONS, now)
    wrong = served.rules.validate_create(obj)
    if wrong:
        raise errors.invalid(obj["kind"], served.resource.group, metadata["name"], wrong)
    return obj
