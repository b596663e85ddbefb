"""No object without its kind: a creation is written only if the definition still stands as it was when it was served.

Otherwise an object could slip in at one server while another is just taking the kind away, and stay in the store unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubeling.api import errors
from kubeling.api.meta import Object
from kubeling.api.structural.definition import Definition
from kubeling.apiserver.registry.store import Change
from kubeling.apiserver.storage.kv import Commit, Write

if TYPE_CHECKING:
    from kubeling.apiserver.custom.definitions import Definitions


class Guard:
    """The companion of a kind's objects: it writes nothing, but looks."""

    def __init__(self, definitions: Definitions, definition: Definition) -> None:
        self._definitions = definitions
        self._definition = definition
        self._key = definitions.key(definition.name)

    async def on_create(self, obj: Object) -> Change:
        """On condition that the definition is as it is known here."""
        change = Change(obj)

        async def again(_: Commit) -> Change:
            await self._definitions.refresh()
            change.writes = self._checks()
            return change

        change.writes, change.again = self._checks(), again
        return change

    def _checks(self) -> tuple[Write, ...]:
        """Raises 405 where the kind is going, 404 where it is gone."""
        present = self._definitions.get(self._definition.name)
        if present is None or present.uid != self._definition.uid:
            raise errors.no_such_path()
        if present.terminating:
            raise errors.method_not_allowed(present.group, present.plural, "create")
        return (Write(self._key, None, self._definitions.revision(present.name), check=True),)

    async def on_update(self, new: Object, old: Object) -> Change:
        return Change(new)

    async def on_delete(self, old: Object) -> Change:
        return Change(None)
