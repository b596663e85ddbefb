"""`label` and `annotate`."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from kubeling.cli import flags
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import Chosen

Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="TYPE[/NAME] [NAME…] KEY=VALUE… KEY-…", help="What to change; KEY- takes a key away."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace values that are there.")]
ListOnly = Annotated[bool, typer.Option("--list", help="Show what there is.")]
ResourceVersion = Annotated[str, typer.Option("--resource-version", help="Change only this version of the object.")]


@dataclass(frozen=True, slots=True)
class Kind:
    """A field of metadata with keys and values, and the words for it."""

    field: str
    singular: str
    done: str
    manager: str
    help: str


@dataclass(frozen=True, slots=True)
class Marks:
    """What is changed of it, and how."""

    kind: Kind
    changes: dict[str, str | None]
    overwrite: bool
    list_only: bool
    dry_run: str
    field_manager: str
    resource_version: str


def _verb(kind: Kind) -> Callable[..., Coroutine[Any, Any, int]]:
    """The command for a kind of mark: both have the same flags."""

    async def command(
        session: Session,
        words: Changes = None,
        filename: flags.Filenames = None,
        recursive: flags.Recursive = False,
        folder: flags.Kustomize = "",
        selector: flags.Selector = "",
        field_selector: flags.FieldSelector = "",
        all_of_them: flags.All = False,
        all_namespaces: flags.AllNamespaces = False,
        overwrite: Overwrite = False,
        list_only: ListOnly = False,
        local: flags.Local = False,
        resource_version: ResourceVersion = "",
        form: flags.Output = "",
        dry_run: flags.DryRun = "none",
        field_manager: flags.FieldManager = kind.manager,
    ) -> int:
        things, changes = _split(words or [])
        marks = Marks(kind, changes, overwrite, list_only, dry_run, field_manager, resource_version)
        what = Chosen(
            things,
            filename or [],
            folder,
            recursive,
            selector=selector,
            field_selector=field_selector,
            all_of_them=all_of_them,
            everywhere=all_namespaces,
            local=local,
        )
        return await _mark(session, marks, what, form)

    command.__name__, command.__doc__ = kind.singular, kind.help
    return command


label = _verb(
    Kind(
        "labels",
        "label",
        "labeled",
        "kubectl-label",
        "Set, change or take away labels: `kubeling label pod web-1 tier=front old-`.",
    )
)
annotate = _verb(
    Kind(
        "annotations",
        "annotation",
        "annotated",
        "kubectl-annotate",
        'Set, change or take away annotations: `kubeling annotate deploy web note="by hand"`.',
    )
)


def _split(words: list[str]) -> tuple[list[str], dict[str, str | None]]:
    """The words that name objects, and the changes: key → value, or None to take it away."""
    changes: dict[str, str | None] = {}
    things = []
    for word in words:
        key, has_value, value = word.partition("=")
        if has_value:
            changes[key] = value
        elif re.fullmatch(r"\S+-", word):
            changes[word[:-1]] = None
        else:
            things.append(word)
    return things, changes


async def _mark(session: Session, marks: Marks, what: Chosen, form: str) -> int:
    kind = marks.kind
    if not marks.changes and not marks.list_only:
        raise CommandError(f"at least one {kind.singular} update is required")
    if marks.resource_version and (what.selector or what.field_selector or what.all_of_them):
        raise CommandError("--resource-version may only be used with a single resource")
    params = flags.write_params(marks.dry_run, marks.field_manager)
    reporter = Reporter(form, dry_run=marks.dry_run)
    for resource, obj in await what.objects(session):
        meta = obj["metadata"]
        have = meta.get(kind.field) or {}
        if marks.list_only:
            print("".join(f"{key}={value}\n" for key, value in sorted(have.items())), end="")
            continue
        _refuse_overwriting(marks, have)
        wanted = _wanted(marks, have)
        if wanted and (marks.dry_run == "client" or what.local):
            merged = {key: value for key, value in {**have, **wanted}.items() if value is not None}
            obj = {**obj, "metadata": {**meta, kind.field: merged}}
        elif wanted:
            body: Obj = {"metadata": {kind.field: wanted}}
            if marks.resource_version:
                body["metadata"]["resourceVersion"] = marks.resource_version
            obj = await session.client.patch(resource, meta["name"], body, meta.get("namespace"), params=params)
        reporter.done(resource, obj, _word(kind, wanted))
    return 0


def _refuse_overwriting(marks: Marks, have: dict[str, str]) -> None:
    clashes = [
        f"'{key}' already has a value ({have[key]})"
        for key, value in marks.changes.items()
        if value is not None and have.get(key) not in (None, value)
    ]
    if not clashes or marks.overwrite:
        return
    if marks.kind.field == "labels":
        raise CommandError(f"{clashes[0]}, and --overwrite is false")
    raise CommandError(f"--overwrite is false but found the following declared annotation(s): {'; '.join(clashes)}")


def _wanted(marks: Marks, have: dict[str, str]) -> dict[str, str | None]:
    """What of the changes is not so already."""
    wanted: dict[str, str | None] = {}
    for key, value in marks.changes.items():
        if have.get(key) != value:
            wanted[key] = value
        elif value is None and marks.kind.field == "labels":
            print(f'label "{key}" not found.')
    return wanted


def _word(kind: Kind, wanted: dict[str, str | None]) -> str:
    if kind.field != "labels":
        return kind.done
    if not wanted:
        return "not labeled"
    return "unlabeled" if all(value is None for value in wanted.values()) else "labeled"
