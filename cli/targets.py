"""From the words on a line (`pods web-1`, `deploy/web svc/web`, `-f file -l app=web`) to the objects that are meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubeling.api.resources import Resource, by_kind
from kubeling.cli import kustomize, manifests
from kubeling.cli.session import CommandError, Obj, Session


@dataclass(frozen=True, slots=True)
class Target:
    """A kind, and the name of one object or None for all of them."""

    resource: Resource
    name: str | None
    namespace: str | None
    #: The object as a file has it, where it came from one.
    manifest: Obj | None = None


async def targets_of(
    session: Session,
    words: Sequence[str],
    *,
    filenames: Sequence[str] = (),
    folder: str = "",
    recursive: bool = False,
    everywhere: bool = False,
    need_names: bool = False,
) -> list[Target]:
    """The targets in order; `folder` is one that kustomize builds. Raises CommandError where the words make no sense."""
    if filenames or folder:
        if words:
            raise CommandError("there is no need to specify a resource type as an argument when using filename")
        return [await _of_manifest(session, each) for each in kustomize.load(filenames, folder, recursive=recursive)]
    if not words:
        raise CommandError(
            'resource(s) must be named by kind and name, kind/name or --filename. "kubeling api-resources" lists the kinds'
        )
    if any("/" in word for word in words):
        return [await _of_pair(session, word, everywhere) for word in words]
    kinds: list[Resource] = []
    for word in words[0].split(","):
        kinds += await session.categories(word) or [await session.resolve(word)]
    names: list[str | None] = [*words[1:]] or [None]
    if need_names and names == [None]:
        raise CommandError(f"resource(s) were provided, but no name was specified: {words[0]}")
    if everywhere and names != [None]:
        raise CommandError("a resource cannot be retrieved by name across all namespaces")
    return [Target(kind, name, session.namespace_for(kind, everywhere=everywhere)) for kind in kinds for name in names]


async def _of_pair(session: Session, word: str, everywhere: bool) -> Target:
    kind, _, name = word.partition("/")
    if not kind or not name or "/" in name:
        raise CommandError(f"arguments in resource/name form must have a single resource and name: {word!r}")
    if everywhere:
        raise CommandError("a resource cannot be retrieved by name across all namespaces")
    resource = await session.resolve(kind)
    return Target(resource, name, session.namespace_for(resource))


async def _of_manifest(session: Session, manifest: manifests.Manifest) -> Target:
    resource, obj = await resource_of_manifest(session, manifest), manifest.obj
    return Target(resource, (obj.get("metadata") or {}).get("name"), namespace_of_manifest(session, resource, obj), obj)


async def resource_of_manifest(session: Session, manifest: manifests.Manifest) -> Resource:
    """The resource of a manifest's apiVersion and kind. Raises CommandError where the server has none."""
    api_version, kind = manifest.obj["apiVersion"], manifest.obj["kind"]
    for each in await session.kinds():
        if (each.group_version, each.kind) == (api_version, kind):
            return each
    meta = manifest.obj.get("metadata") or {}
    raise CommandError(
        f'resource mapping not found for name: "{meta.get("name", "")}" namespace: "{meta.get("namespace", "")}" '
        f'from "{manifest.source}": no matches for kind "{kind}" in version "{api_version}"\nensure CRDs are installed first'
    )


def namespace_of_manifest(session: Session, resource: Resource, obj: Obj) -> str | None:
    """Where an object of a file belongs. Raises CommandError where the file and the line disagree."""
    if not resource.namespaced:
        return None
    own = (obj.get("metadata") or {}).get("namespace")
    if own and session.namespace_given and own != session.namespace:
        raise CommandError(
            f'the namespace from the provided object "{own}" does not match the namespace "{session.namespace}". '
            f"You must pass '--namespace={own}' to perform this operation."
        )
    return own or session.namespace


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which objects a verb that changes them means, as its line says."""

    words: Sequence[str] = ()
    filenames: Sequence[str] = ()
    folder: str = ""
    recursive: bool = False
    selector: str = ""
    field_selector: str = ""
    all_of_them: bool = False
    everywhere: bool = False
    #: The server is not asked: the objects are those of the files.
    local: bool = False

    async def objects(self, session: Session) -> list[tuple[Resource, Obj]]:
        """The objects, as they live, or as the files have them. Raises CommandError."""
        if self.local:
            return self._of_files()
        targets = await targets_of(
            session,
            self.words,
            filenames=self.filenames,
            folder=self.folder,
            recursive=self.recursive,
            everywhere=self.everywhere,
        )
        return await chosen(
            session, targets, selector=self.selector, field_selector=self.field_selector, all_of_them=self.all_of_them
        )

    def _of_files(self) -> list[tuple[Resource, Obj]]:
        if not self.filenames and not self.folder:
            raise CommandError("one or more files must be specified as -f when --local is specified")
        found = []
        for each in kustomize.load(self.filenames, self.folder, recursive=self.recursive):
            resource = by_kind(each.obj["apiVersion"], each.obj["kind"])
            if resource is None:
                raise CommandError(f'no kind "{each.obj["kind"]}" is known in version "{each.obj["apiVersion"]}"')
            found.append((resource, each.obj))
        return found


async def chosen(
    session: Session,
    targets: Sequence[Target],
    *,
    selector: str = "",
    field_selector: str = "",
    all_of_them: bool = False,
    ignore_not_found: bool = False,
) -> list[tuple[Resource, Obj]]:
    """The live objects behind `targets`: by name, or all that the selectors choose."""
    found: list[tuple[Resource, Obj]] = []
    for target in targets:
        identity = {"apiVersion": target.resource.group_version, "kind": target.resource.kind}
        if target.name is not None:
            from kubeling.api.errors import ApiError

            try:
                found.append((target.resource, await session.client.get(target.resource, target.name, target.namespace)))
            except ApiError as error:
                if not (ignore_not_found and error.code == 404):
                    raise
            continue
        if not (selector or field_selector or all_of_them):
            raise CommandError("resource(s) were provided, but no name, label selector, or --all flag specified")
        listed = await session.client.list(
            target.resource, target.namespace, label_selector=selector or None, field_selector=field_selector or None
        )
        found += [(target.resource, {**identity, **item}) for item in listed.get("items") or []]
    return found
