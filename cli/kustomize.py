"""`-k FOLDER`: manifests that kustomize builds. It is a language of its own, so kustomize itself is called, or the one in kubectl."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from kubeling.cli import manifests
from kubeling.cli.session import CommandError


def load(filenames: Sequence[str] | None, folder: str, *, recursive: bool = False) -> list[manifests.Manifest]:
    """The objects of `-f` or of `-k`. Raises CommandError for both, or neither."""
    if folder and filenames:
        raise CommandError("only one of -f or -k can be specified")
    if folder:
        return [manifests.Manifest(obj, folder) for obj in manifests.parse(build(folder), folder)]
    if not filenames:
        raise CommandError("must specify one of -f and -k")
    return manifests.load(filenames, recursive=recursive)


def build(folder: str) -> str:
    """What kustomize makes of a folder (or a URL), as YAML. Raises CommandError in its words."""
    for program, *words in (("kustomize", "build"), ("kubectl", "kustomize")):
        if (path := shutil.which(program)) is not None:
            done = subprocess.run([path, *words, "--", folder], capture_output=True, text=True, check=False)
            if done.returncode:
                raise CommandError(done.stderr.strip().removeprefix("error: ").removeprefix("Error: "))
            return done.stdout
    raise CommandError("-k is built by kustomize: install it, or kubectl, which has it inside")
