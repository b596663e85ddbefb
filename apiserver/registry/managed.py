"""Who owns which field: `metadata.managedFields` after a write."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from kubeling.api.apply import update_managers
from kubeling.api.meta import Object

if TYPE_CHECKING:
    from kubeling.apiserver.registry.kinds import Served
    from kubeling.apiserver.registry.pipeline import Options


def on_write(served: Served, old: Object | None, new: Object, options: Options, now: datetime) -> None:
    """Note in `new`, in place, which fields this write gave to its manager. A server-side apply has done so itself."""
    if options.operation == "Apply":
        return
    update_managers(
        old,
        new,
        manager=options.manager,
        schema=served.stored_schema,
        now=now,
        subresource=options.subresource,
        api_version=served.stored.group_version,
        ignored=served.rules.strategy.reset_fields(options.subresource),
    )
