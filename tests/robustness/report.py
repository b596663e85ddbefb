"""What a run says at its end: a line for people, the history for the search of the cause."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .history import History
from .linearize import LONG_RUN, Verdict

_SHOWN = 6
_KNOWN = 3


def summary(name: str, history: History, verdict: Verdict) -> str:
    """One line: what was done and seen."""
    outcomes = Counter(op.outcome for op in history.operations)
    kinds = Counter(type(op.request).__name__ for op in history.operations)
    events = sum(len(response.events) for watch in history.watches for response in watch.responses)
    faults = Counter(str(note["note"]).split(":")[0] for note in history.notes)
    parts = [
        f"{name}: {len(history.operations)} operations ({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())})",
        f"{outcomes['ok']} answered, {outcomes['failed']} refused, {outcomes['unknown']} with unknown outcome, {len(verdict.placed)} of these placed",
        f"{verdict.last} revisions",
        f"{len(history.watches)} watches with {events} events",
        f"faults: {', '.join(f'{count} {fault}' for fault, count in faults.items()) or 'none'}",
    ]
    return "; ".join(parts)


def report(
    name: str, seed: str, history: History, verdict: Verdict, violations: list[str], known: list[str], directory: Path
) -> str:
    """The whole text; where something is wrong the history is kept in `directory`."""
    violations = [LONG_RUN.sub("…", one) for one in violations]
    lines = [summary(name, history, verdict)]
    lines += [f"known: {one[:600]}" for one in known[:_KNOWN]]
    lines += [f"VIOLATED (seed {seed}): {one[:700]}" for one in violations[:_SHOWN]]
    if len(violations) > _SHOWN:
        lines.append(f"and {len(violations) - _SHOWN} more")
    if violations or any(one.startswith("open: ") for one in known):
        path = directory / "history.jsonl"
        history.save(path)
        lines.append(f"history kept in {path}; look at it again with: python -m tests.robustness check {path}")
    return "\n".join(lines)
