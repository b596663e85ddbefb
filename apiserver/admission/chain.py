"""Admission: after authorisation and decoding, before the store.

Plug-ins run in a fixed order. :meth:`Plugin.admit` may change the object, :meth:`Plugin.validate` may only refuse; both raise ApiError to refuse. What
they share of a request is in :class:`Attributes`.

Where a webhook has changed the object, the changing plug-ins run once more (KEP-492): the built-in ones all, of the webhooks those that asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kubeling.api.resources import Resource
from kubeling.apiserver.authn.user import User
from kubeling.apiserver.storage.kv import Commit, Write

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


class Notes(Protocol):
    """What is to be said of a request besides its answer. A Request is such."""

    def warn(self, text: str) -> None:
        """Add a Warning header to the answer."""

    def annotate(self, key: str, value: str) -> None:
        """Add an annotation to the request's audit events."""


class Unheard:
    """Notes that nobody reads: of what the server does by itself."""

    def warn(self, text: str) -> None: ...

    def annotate(self, key: str, value: str) -> None: ...


UNHEARD = Unheard()


class Guard(Protocol):
    """Keys that are written in the same Txn as the object, or the object is not written: what a quota is charged."""

    async def __aenter__(self) -> Guard: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def writes(self) -> Sequence[Write]:
        """What to write, computed from the newest that is known. Raises ApiError where that refuses the request."""

    def learn(self, commit: Commit, at: int) -> bool:
        """Look at a Txn's outcome, in which these writes began at index `at`; whether they were (part of) why it failed."""


@dataclass(slots=True)
class Reinvocation:
    """Whether, and why, the plug-ins run a second time."""

    again: bool = False
    wanted: bool = False
    #: Of the webhooks: those to be called again, those that would like to be, and the object as they left it.
    due: set[str] = field(default_factory=set)
    willing: set[str] = field(default_factory=set)
    left: dict[str, Any] | None = None


@dataclass(slots=True)
class Attributes:
    """What is to happen. `obj` is the new object (None on deletion), `old` the present one (None on creation)."""

    operation: Operation
    resource: Resource
    subresource: str
    namespace: str
    name: str
    user: User
    obj: dict[str, Any] | None = None
    old: dict[str, Any] | None = None
    dry_run: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: Notes = UNHEARD
    #: apiVersion and kind of `obj` where they are not the resource's own: of a Binding, an Eviction, a PodExecOptions.
    body: tuple[str, str] | None = None
    guard: Guard | None = None
    reinvocation: Reinvocation = field(default_factory=Reinvocation)

    @property
    def pod_spec(self) -> dict[str, Any]:
        """The new object's spec; an empty one where it has none, which validation will refuse."""
        assert self.obj is not None
        found: dict[str, Any] = self.obj.setdefault("spec", {})
        return found


class Plugin:
    """One rule. Override what it needs."""

    async def admit(self, attributes: Attributes) -> None:
        """Change the object, or refuse."""

    async def validate(self, attributes: Attributes) -> None:
        """Refuse what must not be."""


class Chain:
    """All plug-ins."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._admit = [each for each in plugins if type(each).admit is not Plugin.admit]
        self._validate = [each for each in plugins if type(each).validate is not Plugin.validate]

    def append(self, plugin: Plugin) -> None:
        """Add one at the end."""
        self._admit += [plugin] if type(plugin).admit is not Plugin.admit else []
        self._validate += [plugin] if type(plugin).validate is not Plugin.validate else []

    async def admit(self, attributes: Attributes) -> None:
        for each in self._admit:
            await each.admit(attributes)
        if attributes.reinvocation.wanted:
            attributes.reinvocation.again = True
            for each in self._admit:
                await each.admit(attributes)

    async def validate(self, attributes: Attributes) -> None:
        for each in self._validate:
            await each.validate(attributes)
