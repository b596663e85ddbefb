"""`kustomize`: show what a folder comes to that `-k` would use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kubeling.cli import kustomize
from kubeling.cli.dialect import write_yaml
from kubeling.cli.manifests import Obj
from kubeling.cli.session import CommandError

_RESTRICTED, _NOT_RESTRICTED = "LoadRestrictionsRootOnly", "LoadRestrictionsNone"


def show(
    folder: Annotated[
        str, typer.Argument(metavar="[FOLDER]", help="A folder with a kustomization file; this one by default.")
    ] = ".",
    output: Annotated[
        str, typer.Option("-o", "--output", help="Write to this file, or a file for each object into this folder.")
    ] = "",
    load_restrictor: Annotated[
        str, typer.Option("--load-restrictor", help="LoadRestrictionsNone lets files be outside of the folders that name them.")
    ] = _RESTRICTED,
) -> int:
    """Build a set of objects from a kustomization file."""
    if load_restrictor not in (_RESTRICTED, _NOT_RESTRICTED):
        raise CommandError(
            f"illegal flag value --load-restrictor {load_restrictor}; legal values: {[_RESTRICTED, _NOT_RESTRICTED]}"
        )
    objects = kustomize.build(folder, restricted=load_restrictor == _RESTRICTED)
    if output and Path(output).is_dir():
        for name, each in _files(objects):
            (Path(output) / name).write_text(write_yaml(each))
        return 0
    text = "---\n".join(write_yaml(each) for each in objects)
    if not output:
        print(text, end="")
        return 0
    try:
        Path(output).write_text(text)
    except OSError as error:
        raise CommandError(f"open {output}: {(error.strerror or str(error)).lower()}") from error
    return 0


def _files(objects: list[Obj]) -> Iterator[tuple[str, Obj]]:
    """A file for each object; the names begin with the namespace where there are several."""
    several = len({each["metadata"].get("namespace") for each in objects} - {None}) > 1
    for each in objects:
        group, _, version = str(each.get("apiVersion") or "").rpartition("/")
        place = each["metadata"].get("namespace") if several else ""
        parts = (place, group, version, each["kind"], each["metadata"]["name"])
        yield "_".join(part for part in parts if part).lower().replace("/", "-") + ".yaml", each
