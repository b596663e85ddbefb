"""Verbs that change a part of an object: `edit`, `patch`, `label`, `annotate`, `scale`, `set image`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource, by_kind
from kubeling.cli import flags, manifests, output
from kubeling.cli.dialect import read_yaml, write_yaml
from kubeling.cli.session import CommandError, Obj, Session, words_of
from kubeling.cli.targets import chosen, targets_of
from kubeling.cli.threeway import three_way
from kubeling.cli.verbs.write import report
from kubeling.client.rest import PatchType

PatchForm = Annotated[str, typer.Option("--type", help="strategic, merge or json.")]


async def edit(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    form: flags.Output = "",
    field_manager: flags.FieldManager = "kubectl-edit",
) -> int:
    """Change objects in your editor ($KUBE_EDITOR, $EDITOR, or vi)."""
    objects = await chosen(session, await targets_of(session, words or [], filenames=filename or [], need_names=True))
    for resource, live in objects:
        before = write_yaml(output.without_managed_fields(live))
        edited = _in_editor(before, resource, live["metadata"]["name"])
        if edited is None:
            print(f"Edit cancelled, no changes made to {output.name_with_kind(resource, live['metadata']['name'])}.")
            continue
        text, wanted = edited
        original = output.without_managed_fields(live)
        patch = three_way(original, original, wanted, _schema(resource))
        if not patch:
            print("Edit cancelled, no changes made.")
            continue
        try:
            made = await _send(session, resource, live, patch, {"fieldManager": field_manager, "fieldValidation": "Strict"})
        except ApiError as error:
            kept = Path(tempfile.gettempdir()) / f"kubeling-edit-{live['metadata']['uid'][:8]}.yaml"
            kept.write_text(text)
            print(f"{words_of(error)}\nA copy of your changes has been stored to {str(kept)!r}", file=sys.stderr)
            return 1
        report(resource, made, "edited", form)
    return 0


def _in_editor(before: str, resource: Resource, name: str) -> tuple[str, Obj] | None:
    head = "# Please edit the object below. Lines beginning with a '#' will be ignored,\n# and an empty file will abort the edit.\n#\n"
    editor = os.environ.get("KUBE_EDITOR") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="kubeling-edit-") as folder:
        file = Path(folder) / f"{resource.plural}-{name}.yaml"
        file.write_text(head + before)
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CommandError(f"the editor {editor!r} failed: {error}. Name another in KUBE_EDITOR") from error
        text = file.read_text()
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    if not body.strip() or body == before:
        return None
    found = list(manifests.parse(body, "the edited file"))
    if len(found) != 1:
        raise CommandError("the edited file must hold one object")
    return body, found[0]


def _schema(resource: Resource) -> Any:
    if by_kind(resource.group_version, resource.kind) is None:
        return None
    from kubeling.api.builtin import schema_of

    return schema_of(resource.group_version, resource.kind)


async def _send(
    session: Session, resource: Resource, live: Obj, patch: Obj, params: dict[str, str | None], subresource: str | None = None
) -> Obj:
    kind: Any = "strategic" if _schema(resource) is not None else "merge"
    meta = live["metadata"]
    return await session.client.patch(
        resource, meta["name"], patch, meta.get("namespace"), patch_type=kind, subresource=subresource, params=params
    )


async def patch(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    patch_text: Annotated[str, typer.Option("-p", "--patch", help="The patch as JSON or YAML.")] = "",
    patch_file: Annotated[str, typer.Option("--patch-file", help="A file with the patch.")] = "",
    patch_type: PatchForm = "strategic",
    subresource: Annotated[str, typer.Option("--subresource", help="status, scale …")] = "",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-patch",
) -> int:
    """Change fields of an object: `kubeling patch deploy/web -p '{"spec":{"replicas":3}}'`."""
    kinds: dict[str, PatchType] = {"strategic": "strategic", "merge": "merge", "json": "json"}
    if patch_type not in kinds:
        raise CommandError('--type must be one of [json merge strategic], not "' + patch_type + '"')
    text = _text_of(patch_file) if patch_file else patch_text
    if not text:
        raise CommandError("must specify --patch or --patch-file containing the contents of the patch")
    try:
        body = next(read_yaml(text), None)
    except yaml.YAMLError as error:
        raise CommandError(f"unable to parse {text!r}: {error}") from error
    params = flags.write_params(dry_run, field_manager)
    for target in await targets_of(session, words or [], filenames=filename or [], need_names=True):
        assert target.name is not None
        live = await session.client.get(target.resource, target.name, target.namespace)
        try:
            made = await session.client.patch(
                target.resource,
                target.name,
                body,
                target.namespace,
                patch_type=kinds[patch_type],
                subresource=subresource or None,
                params=params,
            )
        except ApiError as error:
            if error.code == 415:
                raise CommandError(
                    f"application/{patch_type}-patch+json is not supported by {target.resource.group_version}, Kind={target.resource.kind}: use --type merge"
                ) from error
            raise
        changed = made["metadata"].get("resourceVersion") != live["metadata"].get("resourceVersion") or dry_run != "none"
        report(target.resource, made, ("patched" if changed else "patched (no change)") + flags.dry_suffix(dry_run), form)
    return 0


def _text_of(file: str) -> str:
    return Path(file).read_text()


Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="TYPE[/NAME] [NAME…] KEY=VALUE… KEY-…", help="What to change; KEY- takes a key away."),
]


async def label(
    session: Session,
    words: Changes = None,
    filename: flags.Filenames = None,
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    all_namespaces: flags.AllNamespaces = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace values that are there.")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Show the labels.")] = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
) -> int:
    """Set, change or take away labels: `kubeling label pod web-1 tier=front old-`."""
    return await _mark(
        session, "labels", words, filename, selector, all_of_them, all_namespaces, overwrite, list_only, form, dry_run
    )


async def annotate(
    session: Session,
    words: Changes = None,
    filename: flags.Filenames = None,
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    all_namespaces: flags.AllNamespaces = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace values that are there.")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Show the annotations.")] = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
) -> int:
    """Set, change or take away annotations."""
    return await _mark(
        session, "annotations", words, filename, selector, all_of_them, all_namespaces, overwrite, list_only, form, dry_run
    )


async def _mark(
    session: Session,
    field: str,
    words: list[str] | None,
    filename: list[str] | None,
    selector: str,
    all_of_them: bool,
    everywhere: bool,
    overwrite: bool,
    list_only: bool,
    form: str,
    dry_run: str,
) -> int:
    things = [word for word in words or [] if "=" not in word and not word.endswith("-")]
    changes: dict[str, str | None] = {}
    for word in words or []:
        if "=" in word:
            key, _, value = word.partition("=")
            changes[key] = value
        elif word.endswith("-"):
            changes[word[:-1]] = None
    singular, done = ("label", "labeled") if field == "labels" else ("annotation", "annotated")
    if not changes and not list_only:
        raise CommandError(f"at least one {singular} update is required")
    params = flags.write_params(dry_run, f"kubectl-{'label' if field == 'labels' else 'annotate'}")
    targets = await targets_of(session, things, filenames=filename or [], everywhere=everywhere)
    for resource, obj in await chosen(session, targets, selector=selector, all_of_them=all_of_them):
        have = obj["metadata"].get(field) or {}
        if list_only:
            print("\n".join(f"{key}={value}" for key, value in sorted(have.items())))
            continue
        clash = [key for key, value in changes.items() if value is not None and have.get(key) not in (None, value)]
        if clash and not overwrite:
            raise CommandError(f"'{clash[0]}' already has a value ({have[clash[0]]}), and --overwrite is false")
        wanted = {key: value for key, value in changes.items() if have.get(key) != value}
        meta = obj["metadata"]
        if not wanted:
            report(resource, obj, f"not {done}", form)
            continue
        if dry_run != "client":
            obj = await session.client.patch(
                resource, meta["name"], {"metadata": {field: wanted}}, meta.get("namespace"), params=params
            )
        removed_only = all(value is None for value in wanted.values())
        report(resource, obj, ("unlabeled" if removed_only and field == "labels" else done) + flags.dry_suffix(dry_run), form)
    return 0


async def scale(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    replicas: Annotated[int, typer.Option("--replicas", help="How many are wanted.")] = -1,
    current_replicas: Annotated[int, typer.Option("--current-replicas", help="Only if there are so many now.")] = -1,
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    form: flags.Output = "",
) -> int:
    """Set the number of replicas: `kubeling scale deploy/web --replicas=3`."""
    if replicas < 0:
        raise CommandError("The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0")
    targets = await targets_of(session, words or [], filenames=filename or [])
    for resource, obj in await chosen(session, targets, selector=selector, all_of_them=all_of_them):
        if resource.subresource("scale") is None:
            raise CommandError(f"{resource.qualified} cannot be scaled")
        meta = obj["metadata"]
        have = (obj.get("spec") or {}).get("replicas", 1)
        if current_replicas >= 0 and have != current_replicas:
            raise CommandError(f"Expected replicas to be {current_replicas}, was {have}")
        body: Obj = {"spec": {"replicas": replicas}}
        if current_replicas >= 0:
            body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, **body}
        await session.client.patch(resource, meta["name"], body, meta.get("namespace"), subresource="scale")
        report(resource, obj, "scaled", form)
    return 0


async def set_image(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="TYPE/NAME CONTAINER=IMAGE…")] = None,
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
) -> int:
    """Change containers' images: `kubeling set image deploy/web web=nginx:2`; `*` means all containers."""
    images = dict(word.split("=", 1) for word in words or [] if "=" in word)
    if not images:
        raise CommandError("at least one image update is required, such as web=nginx:2")
    targets = await targets_of(session, [word for word in words or [] if "=" not in word])
    params = flags.write_params(dry_run, "kubectl-set")
    for resource, obj in await chosen(session, targets, selector=selector, all_of_them=all_of_them):
        path = _pod_spec_path(resource)
        spec: Any = obj
        for part in path:
            spec = spec[part]
        names = {each["name"] for kind in ("containers", "initContainers") for each in spec.get(kind) or []}
        missing = set(images) - names - {"*"}
        if missing:
            raise CommandError(f'unable to find container named "{sorted(missing)[0]}"')
        change: Any = {}
        for kind in ("containers", "initContainers"):
            found = [{"name": each["name"], "image": images.get(each["name"], images.get("*"))} for each in spec.get(kind) or []]
            found = [each for each in found if each["image"]]
            if found:
                change[kind] = found
        for part in reversed(path):
            change = {part: change}
        made = obj if dry_run == "client" else await _send(session, resource, obj, change, params)
        report(resource, made, "image updated" + flags.dry_suffix(dry_run), form)
    return 0


def _pod_spec_path(resource: Resource) -> list[str]:
    paths: dict[str, list[str]] = {"pods": ["spec"], "cronjobs": ["spec", "jobTemplate", "spec", "template", "spec"]}
    found = paths.get(resource.plural)
    if found is None and resource.plural not in (
        "deployments",
        "replicasets",
        "daemonsets",
        "statefulsets",
        "jobs",
        "replicationcontrollers",
    ):
        raise CommandError(f"{resource.qualified} has no containers")
    return found or ["spec", "template", "spec"]
