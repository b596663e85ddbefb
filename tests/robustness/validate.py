"""The verdict on a run: every promise of the store against what was seen of it."""

from __future__ import annotations

from collections.abc import Sequence

from .history import History
from .linearize import Verdict, describe, lease_times, linearize, shown
from .operations import FAILED, OK, Compact, Operation, Range, Revoke
from .watch_guarantees import judge

#: The note of a fault after which no lease is promised its time.
CLOCKS_LIE = "monotonic clock jumps"


def validate(history: History) -> tuple[Verdict, list[str]]:
    """The history of the store as it must have been, and everything that contradicts a promise."""
    verdict = linearize(history.operations, history.watches)
    found = list(verdict.violations)
    found += revoked_leases_hold_nothing(history.operations)
    found += compactions_are_final(history.operations)
    if all(note["note"] != CLOCKS_LIE for note in history.notes):
        found += lease_times(history.operations, history.watches, verdict)
    if not verdict.violations:
        # Without a history there is nothing to hold a watch against.
        found += judge(history.watches, history.operations, verdict)
    return verdict, found


def revoked_leases_hold_nothing(operations: Sequence[Operation]) -> list[str]:
    """Once a revoke has been answered, no later linearizable read shows a key of that lease."""
    gone = {op.request.id: op.returned for op in operations if isinstance(op.request, Revoke) and op.outcome == OK}
    found = []
    for op in operations:
        if op.outcome != OK or (isinstance(op.request, Range) and (op.request.serializable or op.request.revision)):
            continue
        if not isinstance(op.request, Range):
            continue
        for kv in shown(op.body):
            if kv is not None and kv.lease in gone and op.called > gone[kv.lease]:
                found.append(f"a key of a revoked lease: {kv} in {describe(op)}")
    return found


def compactions_are_final(operations: Sequence[Operation]) -> list[str]:
    """What was compacted cannot be read, what was not can; a read of the future is refused only if it is one."""
    asked = [op for op in operations if isinstance(op.request, Compact) and op.outcome != FAILED]
    found = []
    for op in operations:
        if not isinstance(op.request, Range) or not op.request.revision or op.request.serializable:
            continue
        wanted = op.request.revision
        if op.outcome == OK:
            done = [one for one in asked if one.outcome == OK and one.returned < op.called]
            if any(isinstance(one.request, Compact) and one.request.revision > wanted for one in done):
                found.append(f"a read of what had been compacted: {describe(op)}")
        elif "has been compacted" in op.error:
            early = [one for one in asked if one.called <= op.returned]
            if not any(isinstance(one.request, Compact) and one.request.revision > wanted for one in early):
                found.append(f"refused as compacted, though nobody had compacted it: {describe(op)}")
        elif "is a future revision" in op.error:
            seen = [one.revision for one in operations if one.outcome == OK and one.returned < op.called]
            if max(seen, default=0) >= wanted:
                found.append(f"refused as the future, though it had been seen: {describe(op)}")
    return found
