"""Who owns which field: `metadata.managedFields` after a write."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from kubeling.api.meta import Object

if TYPE_CHECKING:
    from kubeling.apiserver.registry.kinds import Served
    from kubeling.apiserver.registry.pipeline import Options


def on_write(served: Served, old: Object | None, new: Object, options: Options, now: datetime) -> None:
    """Note in `new`, in place, which fields this write gave to its manager."""
