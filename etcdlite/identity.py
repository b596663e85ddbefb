"""Which member of which cluster a data directory belongs to: ``member.json``, written when the member first starts.

After that the flags that founded the cluster say nothing any more, as in etcd: members come and go, and change their URLs.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from kubeling.daemon.main import UsageError
from kubeling.etcdlite.journal import sync_directory

_FILE = "member.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """`recovering`: this member took part before and its disk was emptied, so its word does not count until it has everything again."""

    name: str
    cluster: int
    member: int
    recovering: bool = False


def load(directory: Path, name: str) -> Identity | None:
    """What the directory says; None for one that says nothing yet. Raises UsageError where it is another member's."""
    path = directory / _FILE
    try:
        found = json.loads(path.read_text())
        identity = Identity(found["name"], int(found["cluster"], 16), int(found["member"], 16), bool(found["recovering"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged ({error!r}): restore the file, or empty the directory and let the member join anew"
        ) from None
    if identity.name != name:
        raise UsageError(f"{directory} belongs to the member {identity.name}, not to {name}: give another --data-dir or --name")
    return identity


def save(directory: Path, identity: Identity) -> None:
    """Durably; whoever reads it later sees it whole. Raises OSError."""
    path = directory / _FILE
    unfinished = path.with_suffix(".tmp")
    fields = {
        "name": identity.name,
        "cluster": f"{identity.cluster:x}",
        "member": f"{identity.member:x}",
        "recovering": identity.recovering,
    }
    with open(unfinished, "w") as file:
        json.dump(fields, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, path)
    sync_directory(directory)
