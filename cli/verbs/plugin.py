"""`plugin list`: which programs on the PATH are verbs, and which of them cannot be reached."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from kubeling.cli import cluster_verbs, plugins, verbs
from kubeling.cli.session import CommandError


def list_plugins(
    name_only: Annotated[bool, typer.Option("--name-only", help="Only the names of the programs, not their folders.")] = False,
) -> int:
    """List the programs on the PATH that are verbs."""
    found, problems = plugins.visible(os.environ.get("PATH", ""))
    for each in problems:
        print(each, file=sys.stderr)
    if not found:
        raise CommandError("unable to find any kubeling plugins in your PATH")
    print("The following compatible plugins are available:\n")
    for each in found:
        print(os.path.basename(each) if name_only else each)
    said = plugins.warnings(found, _command_of)
    for each in said:
        print(f"  - {each}", file=sys.stderr)
    if said:
        raise CommandError("one plugin warning was found" if len(said) == 1 else f"{len(said)} plugin warnings were found")
    return 0


def _command_of(words: list[str]) -> str:
    """The verb of ours that a line of these words reaches."""
    if words[:1] and words[0] in cluster_verbs.NAMES:
        return words[0]
    return verbs.command_of(words)
