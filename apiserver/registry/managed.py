"""Who owns which field: `metadata.managedFields` after a write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from kubeling.api import errors
from kubeling.api.apply import update_managers
from kubeling.api.apply.versions import Unconverted, Versions
from kubeling.api.meta import Object
from kubeling.apiserver import convert

if TYPE_CHECKING:
    from kubeling.apiserver.registry.kinds import Served
    from kubeling.apiserver.registry.pipeline import Options


T = TypeVar("T")
#: Conversions for one write: of some states of the object, to the versions that its managers wrote in.
_MAX_CONVERSIONS = 64


async def settled(served: Served, compute: Callable[[], T]) -> T:
    """What `compute` comes to, after all that it needs in other versions has been converted. Raises ApiError."""
    for _ in range(_MAX_CONVERSIONS):
        try:
            return compute()
        except Unconverted as need:
            await served.convert(need.versions)
    raise errors.internal("the fields of managers in too many versions")


async def on_update(served: Served, old: Object, new: Object, options: Options, now: datetime) -> None:
    """The same as :func:`on_write`, with the fields of managers that wrote in other versions."""
    versions = served.versions()
    await settled(served, lambda: on_write(served, old, new, options, now, versions))


def on_write(
    served: Served, old: Object | None, new: Object, options: Options, now: datetime, versions: Versions | None = None
) -> None:
    """Note in `new`, in place, which fields this write gave to its manager. A server-side apply has done so itself."""
    if options.operation == "Apply":
        return
    if served.is_builtin and served.converts:
        # The names of the fields are those of the version that the client speaks.
        shown = convert.from_storage(served, new)
        _update(served, None if old is None else convert.from_storage(served, old), shown, options, now, versions)
        metadata = shown["metadata"]
        if "managedFields" in metadata:
            new["metadata"]["managedFields"] = metadata["managedFields"]
        else:
            new["metadata"].pop("managedFields", None)
        return
    _update(served, old, new, options, now, versions)


def _update(served: Served, old: Object | None, new: Object, options: Options, now: datetime, versions: Versions | None) -> None:
    update_managers(
        old,
        new,
        manager=options.manager,
        schema=served.schema,
        now=now,
        subresource=options.subresource,
        api_version=served.resource.group_version,
        ignored=served.rules.strategy.reset_fields(options.subresource),
        versions=versions,
    )
