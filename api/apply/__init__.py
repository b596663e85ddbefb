"""Server-side apply and the bookkeeping behind it: who owns which field of an object (KEP-555).

- :func:`apply` merges what a manager wishes into an object, refuses where others own what would change, and takes away what it stopped wishing for.
- :func:`update_managers` keeps `metadata.managedFields` right on every other write.
"""

from __future__ import annotations

from kubeling.api.apply.apply import apply
from kubeling.api.apply.managers import update_managers

__all__ = ["apply", "update_managers"]
