"""`apply --prune --applyset`: an object that stands for a set, so that what is in the files no more is found and deleted (KEP-3659).

The parent (a Secret, a ConfigMap, or an object of a custom kind whose definition says that it may be one) says in annotations which kinds and namespaces have members; each member bears the set's id
as a label. Before anything is applied, the parent says what there was and what there will be, and after the pruning what there is: so a run that breaks off loses nothing. Parents are kubectl's as
well as ours, and are written as kubectl writes them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence

from kubeling.api.errors import ApiError
from kubeling.api.resources import CONFIG_MAPS, CUSTOM_RESOURCE_DEFINITIONS, SECRETS, Resource
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.verbs import prune
from kubeling.client.rest import Params

_PREFIX = "applyset.kubernetes.io/"
_ID, _PART_OF, _PARENT_TYPE = f"{_PREFIX}id", f"{_PREFIX}part-of", f"{_PREFIX}is-parent-type"
_TOOLING, _KINDS, _NAMESPACES = f"{_PREFIX}tooling", f"{_PREFIX}contains-group-kinds", f"{_PREFIX}additional-namespaces"
#: Sets are kubectl's and ours alike. The name is what is compared, the version is for the eye.
_TOOL, _TOOL_VERSION = "kubectl", "v1.33.0"
_MANAGER = "kubectl-applyset"
_MAKEABLE = (SECRETS, CONFIG_MAPS)

Member = tuple[Resource, "str | None"]


class ApplySet:
    """A set, known by its parent."""

    def __init__(self, session: Session, parent: Resource, name: str, namespace: str | None) -> None:
        self._session = session
        self._parent = parent
        self._name = name
        self._namespace = namespace
        #: What the parent says: kinds as `Kind.group`, and namespaces.
        self._kinds: set[str] = set()
        self._namespaces: set[str] = set()
        self._members: list[Member] = []
        self._params: Params = {}
        self._dry_run = "none"

    @property
    def id(self) -> str:
        """The label's value, of the parent's name, namespace, kind and group."""
        unencoded = ".".join((self._name, self._namespace or "", self._parent.kind, self._parent.group))
        return f"applyset-{base64.urlsafe_b64encode(hashlib.sha256(unencoded.encode()).digest()).decode().rstrip('=')}-v1"

    def __str__(self) -> str:
        return f"{self._parent.plural}.{self._parent.group}/{self._name}"

    def labelled(self, obj: Obj) -> Obj:
        """A member with the set's label. Raises CommandError where it says to be one already."""
        meta = obj.get("metadata") or {}
        labels = meta.get("labels") or {}
        if _PART_OF in labels:
            raise CommandError(f'ApplySet label "{_PART_OF}" already set in input data')
        return {**obj, "metadata": {**meta, "labels": {**labels, _PART_OF: self.id}}}

    async def begin(self, members: Sequence[Member], params: Params, dry_run: str) -> None:
        """Read the parent, and write to it what the set may hold from now on. Raises CommandError where it is not ours."""
        self._members, self._params, self._dry_run = list(members), params, dry_run
        await self._read()
        kinds, namespaces = self._present()
        await self._write(kinds | self._kinds, namespaces | self._namespaces)

    async def end(self, kept: set[str], reporter: Reporter) -> None:
        """Delete the members that are not among these uids, and write to the parent what there is."""
        kinds, namespaces = self._present()
        places = sorted(namespaces | self._namespaces | ({self._namespace} if self._namespace else set()))
        for resource in await self._resources(sorted(kinds | self._kinds)):
            for namespace in places if resource.namespaced else [None]:
                listed = await self._session.client.list(resource, namespace, label_selector=f"{_PART_OF}={self.id}")
                for obj in listed.get("items") or []:
                    if obj["metadata"]["uid"] not in kept:
                        await prune.delete(self._session, resource, obj, self._dry_run)
                        reporter.done(resource, obj, "pruned")
        await self._write(kinds, namespaces)

    def _present(self) -> tuple[set[str], set[str]]:
        kinds = {_kind_name(resource) for resource, _ in self._members}
        return kinds, {namespace for _, namespace in self._members if namespace} - {self._namespace}

    async def _resources(self, kinds: Iterable[str]) -> list[Resource]:
        served = await self._session.kinds()
        found = []
        for name in kinds:
            matching = [each for each in served if _kind_name(each) == name]
            if not matching:
                raise CommandError(f'could not find mapping for kind in "{_KINDS}" annotation: no matches for kind "{name}"')
            found.append(matching[0])
        return found

    async def _read(self) -> None:
        try:
            live = await self._session.client.get(self._parent, self._name, self._namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            if self._parent not in _MAKEABLE:
                raise CommandError("custom resource ApplySet parents cannot be created automatically") from error
            return
        annotations, labels = live["metadata"].get("annotations") or {}, live["metadata"].get("labels") or {}
        if _TOOLING not in annotations:
            raise CommandError(f'ApplySet parent object "{self}" already exists and is missing required annotation "{_TOOLING}"')
        if annotations[_TOOLING].partition("/")[0] != _TOOL:
            raise CommandError(
                f'ApplySet parent object "{self}" already exists and is managed by tooling "{annotations[_TOOLING]}" instead of "{_TOOL}"'
            )
        if _ID not in labels:
            raise CommandError(f'ApplySet parent object "{self}" exists and does not have required label {_ID}')
        if labels[_ID] != self.id:
            raise CommandError(
                f'ApplySet parent object "{self}" exists and has incorrect value for label "{_ID}" (got: {labels[_ID]}, want: {self.id})'
            )
        if _KINDS not in annotations:
            raise CommandError(
                f'parsing ApplySet annotation on "{self}": kubectl requires the "{_KINDS}" annotation to be set on all ApplySet parent objects'
            )
        self._kinds = {each for each in annotations[_KINDS].split(",") if each}
        self._namespaces = {each for each in (annotations.get(_NAMESPACES) or "").split(",") if each}

    async def _write(self, kinds: set[str], namespaces: set[str]) -> None:
        if self._dry_run == "client":
            return
        metadata: Obj = {
            "name": self._name,
            "annotations": {
                _TOOLING: f"{_TOOL}/{_TOOL_VERSION}",
                _KINDS: ",".join(sorted(kinds)),
                _NAMESPACES: ",".join(sorted(namespaces)),
            },
            "labels": {_ID: self.id},
        }
        if self._namespace:
            metadata["namespace"] = self._namespace
        parent = {"apiVersion": self._parent.group_version, "kind": self._parent.kind, "metadata": metadata}
        params = {**self._params, "fieldManager": _MANAGER}
        await self._session.client.patch(self._parent, self._name, parent, self._namespace, patch_type="apply", params=params)


def _kind_name(resource: Resource) -> str:
    return f"{resource.kind}.{resource.group}" if resource.group else resource.kind


async def open_set(session: Session, text: str) -> ApplySet:
    """The set of `[RESOURCE/]NAME`; a Secret where no resource is named. Raises CommandError."""
    kind, slash, name = text.rpartition("/")
    if not name or (slash and not kind) or "/" in kind:
        raise CommandError(
            f'invalid parent reference "{text}": arguments in resource/name form must have a single resource and name'
        )
    parent = await session.resolve(kind) if kind else SECRETS
    parent = next((each for each in _MAKEABLE if (each.group, each.plural) == (parent.group, parent.plural)), parent)
    if parent not in _MAKEABLE:
        await _demand_parent_type(session, parent)
    if parent.namespaced and not session.namespace_given:
        raise CommandError("namespace is required to use namespace-scoped ApplySet")
    return ApplySet(session, parent, name, session.namespace if parent.namespaced else None)


async def _demand_parent_type(session: Session, parent: Resource) -> None:
    try:
        definition = await session.client.get(CUSTOM_RESOURCE_DEFINITIONS, f"{parent.plural}.{parent.group}")
    except ApiError as error:
        if error.code != 404:
            raise
        definition = {}
    if _PARENT_TYPE not in ((definition.get("metadata") or {}).get("labels") or {}):
        raise CommandError(
            f'resource "{parent.group}/{parent.version}, Resource={parent.plural}" is not permitted as an ApplySet parent'
        )
