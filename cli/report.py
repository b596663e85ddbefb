"""What the verbs that change things say of each object: one line, or the object itself with -o."""

from __future__ import annotations

import sys
from collections.abc import Callable

from kubeling.api.resources import Resource
from kubeling.cli import output
from kubeling.cli.session import Obj

#: What is added where nothing was kept.
DRY = {"client": " (dry run)", "server": " (server dry run)"}


class Reporter:
    """`deployment.apps/web created` for each object as it is done; with -o the object instead.

    `together` keeps the objects until :meth:`finish` and shows several as one List, as `apply` does; otherwise YAML documents follow each other.
    """

    def __init__(self, form: str = "", *, dry_run: str = "none", together: bool = False) -> None:
        self._form, self._suffix, self._together = form, DRY.get(dry_run, ""), together
        self._show: Callable[[Obj], str] | None = output.printer(form) if form and form != "name" else None
        self._objects: list[Obj] = []
        self._shown = 0

    def done(self, resource: Resource, obj: Obj, word: str, *, quoted: bool = False) -> None:
        """Say that `word` was done to the object; `quoted` is the older way of it, which `delete` has."""
        name = (obj.get("metadata") or {}).get("name", "")
        if self._show is not None:
            self._objects.append({"apiVersion": resource.group_version, "kind": resource.kind, **obj})
            if not self._together:
                self.finish()
        elif self._form == "name":
            print(output.name_with_kind(resource, name))
        elif quoted:
            print(f'{output.name_with_kind(resource, "").removesuffix("/")} "{name}" {word}{self._suffix}')
        else:
            print(f"{output.name_with_kind(resource, name)} {word}{self._suffix}")

    def finish(self) -> None:
        """Show what was kept."""
        if self._show is None or not self._objects:
            return
        if self._shown and self._form == "yaml":
            print("---")
        many: Obj = {"apiVersion": "v1", "items": self._objects, "kind": "List", "metadata": {"resourceVersion": ""}}
        sys.stdout.write(self._show(self._objects[0] if len(self._objects) == 1 else many))
        self._shown += 1
        self._objects = []
