"""Semantic validation: is the object allowed, and may it become this other one? With upstream's field paths and wording.

Types and unknown fields are the decoder's business (:mod:`kubeling.api.decode`); this is about what types cannot say. Objects are defaulted and
prepared (:mod:`kubeling.api.strategies`) before they come here. Validators are generators of faults.
"""

from __future__ import annotations

from kubeling.api.validation.registry import notices_of, validate_create, validate_status_update, validate_update

__all__ = ["notices_of", "validate_create", "validate_status_update", "validate_update"]
