"""An object on its way through a build, with the names that it has had."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kubeling.api.resources import BUILTIN, by_kind

Obj = dict[str, Any]

#: Kinds of cluster scope, of any version; kinds that nobody knows are taken for namespaced ones.
_CLUSTER = frozenset((each.group, each.kind) for each in BUILTIN if not each.namespaced)


class Gvk(NamedTuple):
    """Group, version and kind."""

    group: str
    version: str
    kind: str

    def selects(self, other: Gvk) -> bool:
        """Whether `other` is of this kind; what is empty here is any."""
        return all(not mine or mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __str__(self) -> str:
        return f"{self.kind or '[noKind]'}.{self.version or '[noVer]'}.{self.group or '[noGrp]'}"


class Id(NamedTuple):
    """What an object is called at one moment."""

    gvk: Gvk
    name: str
    namespace: str

    @property
    def cluster_scoped(self) -> bool:
        return (self.gvk.group, self.gvk.kind) in _CLUSTER

    @property
    def effective_namespace(self) -> str:
        """Where it is, for comparisons: an empty namespace is the default one."""
        return "" if self.cluster_scoped else self.namespace or "default"

    def equals(self, other: Id) -> bool:
        """Whether both mean the same object; versions do not count."""
        mine, theirs = self.gvk, other.gvk
        same = (mine.group, mine.kind, self.name) == (theirs.group, theirs.kind, other.name)
        return same and self.effective_namespace == other.effective_namespace

    def __str__(self) -> str:
        gvk = f"{self.gvk.kind}.{self.gvk.version or '[noVer]'}.{self.gvk.group or '[noGrp]'}"
        return f"{gvk}/{self.name or '[noName]'}.{self.namespace or '[noNs]'}"


@dataclass(eq=False)
class Resource:
    """One object. `obj` is its own, and changed in place."""

    obj: Obj
    #: What it was called before, oldest first.
    former: list[Id] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    suffixes: list[str] = field(default_factory=list)
    needs_hash: bool = False
    behavior: str = ""

    @property
    def gvk(self) -> Gvk:
        group, _, version = str(self.obj.get("apiVersion") or "").rpartition("/")
        return Gvk(group, version, str(self.obj.get("kind") or ""))

    @property
    def name(self) -> str:
        return str((self.obj.get("metadata") or {}).get("name") or "")

    @property
    def namespace(self) -> str:
        return str((self.obj.get("metadata") or {}).get("namespace") or "")

    @property
    def id(self) -> Id:
        return Id(self.gvk, self.name, self.namespace)

    @property
    def original(self) -> Id:
        """What it was called in its file."""
        return self.former[0] if self.former else self.id

    @property
    def ids(self) -> list[Id]:
        """All that it has been called, and is."""
        return [*self.former, self.id]

    def rename(self, name: str) -> None:
        """Give it another name, and remember this one."""
        self.remember()
        self.obj.setdefault("metadata", {})["name"] = name

    def remember(self) -> None:
        """Note what it is called before it changes."""
        if not self.former or self.former[-1] != self.id:
            self.former.append(self.id)

    @property
    def text_maps(self) -> tuple[dict[str, str], dict[str, str]]:
        """Labels and annotations, for selectors."""
        metadata = self.obj.get("metadata") or {}
        return metadata.get("labels") or {}, metadata.get("annotations") or {}


def schema_of(gvk: Gvk) -> Any:
    """The schema by which lists of a built-in kind merge; None for other kinds."""
    api_version = f"{gvk.group}/{gvk.version}" if gvk.group else gvk.version
    if by_kind(api_version, gvk.kind) is None:
        return None
    from kubeling.api.builtin import schema_of as found  # Reads all types of a group.

    return found(api_version, gvk.kind)
