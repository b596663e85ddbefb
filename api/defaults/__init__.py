"""Defaulting: what an object means where it is silent, kind by kind, as upstream fills it in.

Plain functions over dicts, which change the object in place. The types' own constant defaults are here too, so that this is the only place.
What needs other objects or the server (service account, tolerations, priority, cluster addresses) is admission's and the allocators' work.
"""

from __future__ import annotations

from kubeling.api.defaults.registry import apply_defaults

__all__ = ["apply_defaults"]
