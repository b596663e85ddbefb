"""`-k FOLDER`: manifests that kustomize builds. It is a language of its own, so kustomize itself is called, or the one in kubectl."""

from __future__ import annotations

import shutil
import subprocess
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
        found = [manifests.Manifest(obj, folder) for obj in manifests.parse(build(folder), folder)]
    else:
        found = manifests.load(filenames or [], recursive=recursive)
    if not selector:
        return found
    from kubeling.api.labels import parse

    chosen = parse(selector)
    return [each for each in found if chosen.matches((each.obj.get("metadata") or {}).get("labels") or {})]


def build(folder: str) -> str:
    """What kustomize makes of a folder (or a URL), as YAML. Raises CommandError in its words."""
    for program, *words in (("kustomize", "build"), ("kubectl", "kustomize")):
        if (path := shutil.which(program)) is not None:
            done = subprocess.run([path, *words, "--", folder], capture_output=True, text=True, check=False)
            if done.returncode:
                raise CommandError(done.stderr.strip().removeprefix("error: ").removeprefix("Error: "))
            return done.stdout
    raise CommandError("-k is built by kustomize: install it, or kubectl, which has it inside")
