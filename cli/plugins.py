"""Verbs that are programs of their own: `kubeling foo bar` runs `kubeling-foo-bar`, `kubectl-foo-bar` or `kubeling-foo` from the PATH, whatever is there.

The longest name wins, a dash within a word is an underscore in the file's name, and a verb of ours is never replaced. `create` may be extended by kinds. All words that are
not in the name are the program's, flags too; the environment is ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence

PREFIXES = ("kubeling", "kubectl")


def find(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """The program for a line of which no verb of ours knows the first word, and the words that it gets."""
    names: list[str] = []
    for word in words:
        if word.startswith("-"):
            break
        names.append(word.replace("-", "_"))
    for many in range(len(names), 0, -1):
        for prefix in PREFIXES:
            path = shutil.which("-".join([prefix, *names[:many]]))
            if path is not None:
                return path, list(words[many:])
    return None


def run(words: Sequence[str]) -> None:
    """Become the program; returns where there is none."""
    found = find(words)
    if found is not None:
        path, rest = found
        os.execv(path, [path, *rest])


def visible(path: str) -> tuple[list[str], list[str]]:
    """The plugins in the folders of `path` (as in $PATH), and what is to be said of folders that cannot be read."""
    found, problems = [], []
    for folder in dict.fromkeys(each for each in path.split(os.pathsep) if each.strip()):
        try:
            names = sorted(each.name for each in os.scandir(folder) if not each.is_dir())
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            problems.append(f'Unable to read directory "{folder}" from your PATH: open {folder}: {why}. Skipping...')
            continue
        found += [os.path.join(folder, name) for name in names if name.startswith(tuple(f"{each}-" for each in PREFIXES))]
    return found, problems


def warnings(paths: Sequence[str], command_of: Callable[[list[str]], str]) -> list[str]:
    """What keeps plugins from being run. `command_of` says which verb of ours takes a line of words, empty if none does."""
    said: list[str] = []
    seen: dict[str, str] = {}
    for path in paths:
        name = os.path.basename(path)
        taken = command_of(name.split("-")[1:])
        if taken:
            said.append(f'warning: {name} overwrites existing command: "kubeling {taken}"')
            continue
        if not os.access(path, os.X_OK):
            said.append(f"warning: {path} identified as a kubectl plugin, but it is not executable")
        if name in seen:
            said.append(f"warning: {path} is overshadowed by a similarly named plugin: {seen[name]}")
        else:
            seen[name] = path
    return said
