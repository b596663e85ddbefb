"""`label` and `annotate`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import typer

from kubeling.cli import flags
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import chosen, targets_of

Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="TYPE[/NAME] [NAME…] KEY=VALUE… KEY-…", help="What to change; KEY- takes a key away."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace values that are there.")]
ListOnly = Annotated[bool, typer.Option("--list", help="Show what there is.")]
ResourceVersion = Annotated[str, typer.Option("--resource-version", help="Change only this version of the object.")]


@dataclass(frozen=True, slots=True)
class Marks:
    """The field of metadata that is changed, and how."""

    field: str
    singular: str
    done: str
    changes: dict[str, str | None]
    overwrite: bool
    list_only: bool
    dry_run: str


async def label(
    session: Session,
    words: Changes = None,
    filename: flags.Filenames = None,
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    all_namespaces: flags.AllNamespaces = False,
    overwrite: Overwrite = False,
    list_only: ListOnly = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
) -> int:
    """Set, change or take away labels: `kubeling label pod web-1 tier=front old-`."""
    things, changes = _split(words or [])
    marks = Marks("labels", "label", "labeled", changes, overwrite, list_only, dry_run)
    return await _mark(session, marks, things, filename, selector, all_of_them, all_namespaces, form)


async def annotate(
    session: Session,
    words: Changes = None,
    filename: flags.Filenames = None,
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    all_namespaces: flags.AllNamespaces = False,
    overwrite: Overwrite = False,
    list_only: ListOnly = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
) -> int:
    """Set, change or take away annotations: `kubeling annotate deploy web note="by hand"`."""
    things, changes = _split(words or [])
    marks = Marks("annotations", "annotation", "annotated", changes, overwrite, list_only, dry_run)
    return await _mark(session, marks, things, filename, selector, all_of_them, all_namespaces, form)


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


async def _mark(
    session: Session,
    marks: Marks,
    things: list[str],
    filename: list[str] | None,
    selector: str,
    all_of_them: bool,
    everywhere: bool,
    form: str,
) -> int:
    if not marks.changes and not marks.list_only:
        raise CommandError(f"at least one {marks.singular} update is required")
    params = flags.write_params(marks.dry_run, f"kubectl-{marks.field.rstrip('s') if marks.field == 'labels' else 'annotate'}")
    reporter = Reporter(form, dry_run=marks.dry_run)
    targets = await targets_of(session, things, filenames=filename or [], everywhere=everywhere)
    for resource, obj in await chosen(session, targets, selector=selector, all_of_them=all_of_them):
        meta = obj["metadata"]
        have = meta.get(marks.field) or {}
        if marks.list_only:
            print("".join(f"{key}={value}\n" for key, value in sorted(have.items())), end="")
            continue
        _refuse_overwriting(marks, have)
        wanted = _wanted(marks, have)
        if wanted and marks.dry_run == "client":
            merged = {key: value for key, value in {**have, **wanted}.items() if value is not None}
            obj = {**obj, "metadata": {**meta, marks.field: merged}}
        elif wanted:
            body: Obj = {"metadata": {marks.field: wanted}}
            obj = await session.client.patch(resource, meta["name"], body, meta.get("namespace"), params=params)
        reporter.done(resource, obj, _word(marks, wanted))
    return 0


def _refuse_overwriting(marks: Marks, have: dict[str, str]) -> None:
    clashes = [
        f"'{key}' already has a value ({have[key]})"
        for key, value in marks.changes.items()
        if value is not None and have.get(key) not in (None, value)
    ]
    if not clashes or marks.overwrite:
        return
    if marks.field == "labels":
        raise CommandError(f"{clashes[0]}, and --overwrite is false")
    raise CommandError(f"--overwrite is false but found the following declared annotation(s): {'; '.join(clashes)}")


def _wanted(marks: Marks, have: dict[str, str]) -> dict[str, str | None]:
    """What of the changes is not so already."""
    wanted: dict[str, str | None] = {}
    for key, value in marks.changes.items():
        if have.get(key) != value:
            wanted[key] = value
        elif value is None and marks.field == "labels":
            print(f'label "{key}" not found.')
    return wanted


def _word(marks: Marks, wanted: dict[str, str | None]) -> str:
    if marks.field != "labels":
        return marks.done
    if not wanted:
        return "not labeled"
    return "unlabeled" if all(value is None for value in wanted.values()) else "labeled"
