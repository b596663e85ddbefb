"""`-k FOLDER`: manifests that :mod:`.kustomization` builds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kubeling.cli import manifests
from kubeling.cli.session import CommandError


def load(
    filenames: Sequence[str] | None, folder: str, *, recursive: bool = False, selector: str = ""
) -> list[manifests.Manifest]:
    """The objects of `-f` or of `-k`, those with the labels only. Raises CommandError for both, or neither."""
    if folder and filenames:
        raise CommandError("only one of -f or -k can be specified")
    if not folder and not filenames:
        raise CommandError("must specify one of -f and -k")
    if folder:
        found = [manifests.Manifest(obj, folder) for obj in build(folder)]
    else:
        found = manifests.load(filenames or [], recursive=recursive)
    if not selector:
        return found
    from kubeling.api.labels import parse

    chosen = parse(selector)
    return [each for each in found if chosen.matches((each.obj.get("metadata") or {}).get("labels") or {})]


def build(folder: str, *, restricted: bool = True) -> list[manifests.Obj]:
    """What the kustomization in a folder comes to; `restricted` to files in or below the folders that name them. Warnings go to the standard error. Raises CommandError."""
    from kubeling.cli.kustomization.problems import KustomizationError
    from kubeling.cli.kustomization.target import build as built

    try:
        objects, said = built(folder, restricted=restricted)
    except KustomizationError as error:
        raise CommandError(str(error)) from error
    for each in said:
        print(each, file=sys.stderr)
    return objects
