"""A kind's rules as the registry uses them: the strategy, defaulting and validation of `kubeling.api` behind one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kubeling.api import resources
from kubeling.api.defaults import apply_defaults
from kubeling.api.errors import FieldError
from kubeling.api.meta import Object
from kubeling.api.resources import Resource
from kubeling.api.strategies import Strategy, strategy_of

if TYPE_CHECKING:
    from kubeling.apiserver.registry.pipeline import Companions

_TRIGGERS = {resources.PODS: "spec.nodeName"}


class Rules:
    """What differs between kinds. Objects are of the stored version."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        #: Writes other keys along with an object, None for nearly all kinds.
        self.companions: Companions | None = None
        #: The field by which watchers are indexed.
        self.trigger = _TRIGGERS.get(strategy.resource, "")

    def fields(self, obj: Object) -> Mapping[str, str]:
        """What field selectors see."""
        return self.strategy.selectable_fields(obj)

    def default(self, obj: Object) -> None:
        """Fill in the defaults, in place."""
        apply_defaults(obj)

    def validate_create(self, obj: Object) -> list[FieldError]:
        return []

    def validate_update(self, new: Object, old: Object, subresource: str) -> list[FieldError]:
        return []

    def table(self, items: Sequence[Object]) -> tuple[list[dict[str, Any]], list[list[Any]]]:
        """Column definitions, and the cells of each object."""
        columns = [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]
        return columns, [[each["metadata"]["name"]] for each in items]


def rules_of(resource: Resource) -> Rules:
    """The rules of a built-in kind."""
    return Rules(strategy_of(resource))
