"""Admission: after authorisation and decoding, before the store.

Plug-ins run in a fixed order. :meth:`Plugin.admit` may change the object, :meth:`Plugin.validate` may only refuse; both raise ApiError to refuse. What
they share of a request is in :class:`Attributes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kubeling.api.resources import Resource
from kubeling.apiserver.authn.user import User

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


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
    options: dict[str, Any] = field(default_factory=dict)

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

    async def admit(self, attributes: Attributes) -> None:
        for each in self._admit:
            await each.admit(attributes)

    async def validate(self, attributes: Attributes) -> None:
        for each in self._validate:
            await each.validate(attributes)
