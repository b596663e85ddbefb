"""A kind's rules as the registry uses them: the strategy, defaulting and validation of `kubeling.api` behind one object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kubeling.api import resources, validation
from kubeling.api.builtin import schema_of
from kubeling.api.defaults import apply_defaults
from kubeling.api.errors import FieldError
from kubeling.api.meta import Object
from kubeling.api.resources import Resource
from kubeling.api.strategies import Strategy, strategy_of
from kubeling.api.zeros import drop_zeros

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
        """Bring the object into the form in which it is kept, in place: without zeros that say nothing, and with the defaults."""
        resource = self.strategy.resource
        drop_zeros(schema_of(resource.group_version, resource.kind), obj)
        apply_defaults(obj)

    def after_admission(self, obj: Object) -> None:
        """Bring what admission made of the object into the form of its kind, in place."""

    def validate_create(self, obj: Object) -> list[FieldError]:
        """What is wrong with an object that is to be created."""
        return validation.validate_create(obj, self.strategy.resource)

    def validate_update(self, new: Object, old: Object, door: str) -> list[FieldError]:
        """What is wrong with an update through a door, the main one where it is empty."""
        if door:
            return validation.validate_status_update(new, old, self.strategy.resource)
        return validation.validate_update(new, old, self.strategy.resource)

    def notices(self, new: Object, old: Object | None) -> list[str]:
        """What to warn of in an object that was found valid."""
        return validation.notices_of(new, old, self.strategy.resource)


class StrictEvents(Rules):
    """events.k8s.io asks more of an event than core/v1 does, though both store the same."""

    def validate_create(self, obj: Object) -> list[FieldError]:
        from kubeling.api.validation.events import strict_event

        return [*super().validate_create(obj), *strict_event(obj)]

    def validate_update(self, new: Object, old: Object, door: str) -> list[FieldError]:
        from kubeling.api.validation.events import strict_event_update

        return [*super().validate_update(new, old, door), *strict_event_update(new, old)]


def rules_of(resource: Resource, served: Resource | None = None) -> Rules:
    """The rules of a built-in kind; `served` is the version in which it is written, where it is another."""
    return (StrictEvents if served == resources.EVENTS_V1 else Rules)(strategy_of(resource))
