"""The kubectls that tests are run with, each as upstream released it.

The oldest and the newest stand for those between; with KUBELING_ALL_KUBECTLS=1 all of them are run.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path


def installed() -> list[str]:
    """kubectl on the path, and versions beside its real place (kubectl.1.29 …) or in the folders of $KUBECTL_DIRS, the oldest first."""
    first = shutil.which("kubectl")
    if first is None:
        return []
    folders = [Path(os.path.realpath(first)).parent, *map(Path, filter(None, os.environ.get("KUBECTL_DIRS", "").split(":")))]
    beside = [each for folder in folders for each in folder.glob("kubectl.1.*") if re.fullmatch(r"kubectl\.1\.\d+", each.name)]
    beside.sort(key=lambda path: int(path.name.rpartition(".")[2]))
    return [str(path) for path in beside] or [first]


def oldest_and_newest() -> list[str]:
    """Those two, or what is there of them."""
    found = installed()
    return found if everyone() or len(found) < 3 else [found[0], found[-1]]


def newest() -> list[str]:
    """That one, if any is there."""
    return installed() if everyone() else installed()[-1:]


def everyone() -> bool:
    return bool(os.environ.get("KUBELING_ALL_KUBECTLS"))
