"""Whether a history is strictly serializable: one order of all operations that explains every answer and agrees with real time.

The store says with every answer at which revision it was given, and a write that has an effect has a revision to itself. So the order is nearly known:
writes by revision, reads behind the write whose revision they name. What remains:

1. *Real time.* What was called after another had returned may not stand before it. One sweep over the times (:func:`bounds_violations`).
2. *Unknown outcomes.* A request that timed out may have had its effect at any later revision, or never. The revisions that nobody was answered with
   ("holes") are given to such requests, to ends of leases, or to nobody (a violation) by a search in the manner of Wing and Gong: replay the model in the order of revisions; at a hole
   try every request that was called early enough and whose effect agrees with what watchers and readers saw of that revision; go back when a later answer contradicts.
3. *Answers.* At each revision the model's answer has to be the one that was given.

Strictness of 1 with totality of the order makes this exact: a history passes if, and only if, there is such an order (`test_checker` compares it with
trying all orders).
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .model import State, apply, has_effect, lease_gone, read
from .operations import (
    FAILED,
    KV,
    OK,
    UNKNOWN,
    Body,
    Delete,
    DeleteBody,
    Event,
    Grant,
    KeepAlive,
    LeaseBody,
    Operation,
    Put,
    PutBody,
    Range,
    RangeBody,
    Revoke,
    Txn,
    TxnBody,
    Watching,
)

FIRST_REVISION = 1
_FOREVER = 1 << 62
#: What large values are filled with is of no interest to a reader.
LONG_RUN = re.compile(r"\.{9,}")
#: Attempts at placing an operation before the search gives up and says so: a verdict that takes longer is none.
MAX_STEPS = 3_000_000
_SHOWN = 12


@dataclass
class Verdict:
    """The outcome: what is wrong (nothing: a correct history), and the history of the store that explains the answers, by revision."""

    violations: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=lambda: [{}])
    events: dict[int, list[Event]] = field(default_factory=dict)
    #: Which unknown requests had an effect, and which leases ended, by revision.
    placed: dict[int, Operation] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    steps: int = 0
    undecided: bool = False

    @property
    def last(self) -> int:
        return FIRST_REVISION + len(self.states) - 1

    def state(self, revision: int) -> State:
        return self.states[revision - FIRST_REVISION]


@dataclass(frozen=True)
class _Candidate:
    """Something that may have made a revision nobody was answered with."""

    called: int
    returned: int
    operation: Operation | None
    lease: int = 0

    def __str__(self) -> str:
        return f"end of lease {self.lease}" if self.operation is None else describe(self.operation)


def describe(op: Operation) -> str:
    """One line of an operation, for a report."""
    took = f"{op.called / 1e9:.4f} to {op.returned / 1e9:.4f} s"
    answer = f"revision {op.revision} {op.body}" if op.outcome == OK else f"{op.outcome} {op.error}"
    return LONG_RUN.sub("…", f"#{op.id} {op.client}@{op.member} {took} {op.request} → {answer}")


def linearize(operations: Sequence[Operation], watches: Sequence[Watching] = (), max_steps: int = MAX_STEPS) -> Verdict:
    """Judge a history. `watches` are evidence of what happened at a revision; whether they were served rightly is judged elsewhere."""
    verdict = Verdict()
    writers: dict[int, Operation] = {}
    readers: dict[int, list[Operation]] = defaultdict(list)
    for op in operations:
        if op.outcome != OK or not isinstance(op.request, (Put, Range, Delete, Txn)):
            continue
        if op.revision < FIRST_REVISION + has_effect(op.request, op.body):
            verdict.violations.append(f"no such revision: {describe(op)}")
        elif not has_effect(op.request, op.body):
            readers[op.revision].append(op)
        elif op.revision in writers:
            verdict.violations.append(f"two writes have the same revision: {describe(writers[op.revision])} and {describe(op)}")
        else:
            writers[op.revision] = op
    verdict.violations += bounds_violations(operations, watches)
    seen, conflicts = _seen(operations, watches)
    verdict.violations += conflicts
    last = max([FIRST_REVISION, *writers, *readers, *seen, *(r.revision for w in watches for r in w.responses)])
    _Search(
        verdict,
        writers,
        readers,
        seen,
        _candidates(operations),
        _deadlines(operations, watches, last),
        last,
        max_steps,
    ).run()
    return verdict


def _sightings(operations: Iterable[Operation], watches: Iterable[Watching]) -> list[tuple[int, int]]:
    """(time, revision): by then the store had shown this revision to somebody, so it existed."""
    found = [
        (op.returned, op.revision)
        for op in operations
        if op.outcome == OK and op.revision and isinstance(op.request, (Put, Range, Delete, Txn))
    ]
    return found + [(one.at, one.events[-1][0].revision) for watch in watches for one in watch.responses if one.events]


def bounds_violations(operations: Sequence[Operation], watches: Sequence[Watching]) -> list[str]:
    """Who stands before something that had been over when they were called: stale linearizable reads, writes with too old a revision."""
    sightings = sorted(_sightings(operations, watches))
    times, highest, top = [], [], 0
    for at, revision in sightings:
        top = max(top, revision)
        times.append(at)
        highest.append(top)
    found = []
    for op in operations:
        if op.outcome != OK or not isinstance(op.request, (Put, Range, Delete, Txn)):
            continue
        if isinstance(op.request, Range) and op.request.serializable:
            continue
        # Strictly before: what returned in the same nanosecond may be concurrent.
        index = bisect.bisect_left(times, op.called)
        known = highest[index - 1] if index else 0
        if has_effect(op.request, op.body):
            if op.revision <= known:
                found.append(f"a write stands before what was seen when it was called (revision {known}): {describe(op)}")
        elif op.revision < known:
            found.append(f"stale linearizable read: revision {known} had been seen before it was called: {describe(op)}")
    return found


def _seen(operations: Iterable[Operation], watches: Iterable[Watching]) -> tuple[dict[int, dict[str, Event]], list[str]]:
    """What somebody saw of each revision (puts in answers with keys, and events), and where two saw different things."""
    seen: dict[int, dict[str, Event]] = defaultdict(dict)
    conflicts: list[str] = []

    def note(event: Event, who: str) -> None:
        other = seen[event.revision].setdefault(event.key, event)
        if other != event:
            conflicts.append(f"one revision was seen differently: {other}, and as {event} by {who}")

    for op in operations:
        if op.outcome == OK:
            for kv in shown(op.body):
                if kv is not None:
                    note(Event(kv.key, kv.mod, kv), describe(op))
    for watch in watches:
        for response in watch.responses:
            for event, previous in response.events:
                note(event, f"watch {watch.id} of {watch.client}")
                if previous is not None:
                    note(Event(previous.key, previous.mod, previous), f"watch {watch.id} of {watch.client}")
    return seen, conflicts[:_SHOWN]


def shown(body: Body) -> Iterable[KV | None]:
    """The keys that an answer shows."""
    if isinstance(body, PutBody):
        yield body.previous
    elif isinstance(body, RangeBody):
        yield from body.kvs
    elif isinstance(body, DeleteBody):
        yield from body.previous
    elif isinstance(body, TxnBody):
        for one in body.bodies:
            yield from shown(one)


def _candidates(operations: Sequence[Operation]) -> list[_Candidate]:
    """All that may have made a revision without an answer that names it. A revoke's answer names none that could be relied on."""
    found = []
    ends = []
    for op in operations:
        match op.request:
            case Put() | Delete() | Txn() if op.outcome == UNKNOWN:
                found.append(_Candidate(op.called, _FOREVER, op))
            case Revoke(lease) if op.outcome != FAILED:
                found.append(_Candidate(op.called, op.returned if op.outcome == OK else _FOREVER, op, lease))
            case Grant(lease) if op.outcome != FAILED:
                # Whether it was its time is judged afterwards, by `lease_times`.
                ends.append(_Candidate(op.called, _FOREVER, None, lease))
    return found + ends


def _deadlines(operations: Sequence[Operation], watches: Sequence[Watching], last: int) -> list[int]:
    """For each revision, the time before which whoever made it must have been called: when it, or a later one, was first shown."""
    deadlines = [_FOREVER] * (last + 2)
    for at, revision in _sightings(operations, watches):
        if revision <= last:
            deadlines[revision] = min(deadlines[revision], at)
    for revision in range(last - 1, -1, -1):
        deadlines[revision] = min(deadlines[revision], deadlines[revision + 1])
    return deadlines


def lease_times(operations: Sequence[Operation], watches: Sequence[Watching], verdict: Verdict) -> list[str]:
    """Leases that ended before their time: one that was granted or kept alive at a moment lives for its whole TTL from then."""
    deadlines = _deadlines(operations, watches, verdict.last)
    found = []
    for revision, lease in verdict.ended.items():
        ttl, last = 0, None
        for op in operations:
            if op.outcome != OK or not isinstance(op.body, LeaseBody) or not op.body.ttl or op.called >= deadlines[revision]:
                continue
            if (
                isinstance(op.request, (Grant, KeepAlive))
                and op.request.id == lease
                and (last is None or op.called > last.called)
            ):
                ttl, last = op.body.ttl, op
        if last is not None and deadlines[revision] < last.called + ttl * 1_000_000_000:
            early = (last.called - deadlines[revision]) / 1e9 + ttl
            found.append(
                f"a lease ended before its time: {lease} at revision {revision}, {early:.3f} s too early for {describe(last)}"
            )
    return found


class _Search:
    """The replay with its holes. A choice is kept with the alternatives that were not tried, and taken back when what follows contradicts it."""

    def __init__(
        self,
        verdict: Verdict,
        writers: dict[int, Operation],
        readers: dict[int, list[Operation]],
        seen: dict[int, dict[str, Event]],
        candidates: list[_Candidate],
        deadlines: list[int],
        last: int,
        max_steps: int,
    ) -> None:
        self.verdict, self.writers, self.readers, self.seen = verdict, writers, readers, seen
        self.candidates, self.deadlines, self.last, self.max_steps = candidates, deadlines, last, max_steps
        self.used: dict[int, int] = {}
        self.history = _old_reads(readers)
        # After a revoke has been answered nothing may stand before it that was called later: the lowest revision of what was called from a time on.
        waiting = [op for ops in readers.values() for op in ops if not _serializable(op)] + list(writers.values())
        bound = sorted((op.called, op.revision) for op in waiting)
        self.bound_times = [at for at, _ in bound]
        self.floors = list(itertools.accumulate((revision for _, revision in reversed(bound)), min))[::-1]

    def run(self) -> None:
        verdict = self.verdict
        choices: list[tuple[int, list[int]]] = []
        deepest, reasons = 0, [""]
        problem = self._check(FIRST_REVISION, {}, [], None)
        if problem:
            verdict.violations.append(problem)
            return
        revision = FIRST_REVISION + 1
        while revision <= self.last:
            writer = self.writers.get(revision)
            if writer is not None:
                problem = self._take(revision, writer)
            else:
                options = self._options(revision)
                problem = self._choose(revision, options, choices)
            if not problem:
                revision += 1
                continue
            if revision > deepest:
                deepest, reasons = revision, []
            if revision == deepest and problem not in reasons:
                reasons.append(problem)
            while choices:
                revision, options = choices.pop()
                self._back(revision)
                if not self._choose(revision, options, choices):
                    revision += 1
                    break
            else:
                verdict.violations.append(f"no order explains revision {deepest}: " + "; or: ".join(reasons[:_SHOWN]))
                return
            if verdict.steps > self.max_steps:
                verdict.undecided = True
                verdict.violations.append(f"undecided after {verdict.steps} steps at revision {deepest}: {reasons[0]}")
                return

    def _back(self, revision: int) -> None:
        """Forget `revision` and all after it."""
        del self.verdict.states[revision - FIRST_REVISION :]
        for made in [one for one in self.verdict.events if one >= revision]:
            del self.verdict.events[made]
            self.verdict.placed.pop(made, None)
            self.verdict.ended.pop(made, None)
            self.used.pop(made, None)

    def _options(self, revision: int) -> list[int]:
        used = set(self.used.values())
        deadline = self.deadlines[revision]
        return [
            index
            for index, one in enumerate(self.candidates)
            if one.called <= deadline and index not in used and self._early_enough(one, revision)
        ]

    def _early_enough(self, one: _Candidate, revision: int) -> bool:
        if one.returned == _FOREVER:
            return True
        index = bisect.bisect_right(self.bound_times, one.returned)
        return index == len(self.floors) or self.floors[index] >= revision

    def _choose(self, revision: int, options: list[int], choices: list[tuple[int, list[int]]]) -> str:
        """Give the hole to the first option that agrees with what is known of it; the rest are kept for later."""
        state = self.verdict.states[-1]
        saw = self.seen.get(revision, {})
        problem = f"nobody can have made it; seen of it: {[str(one) for one in saw.values()] or 'nothing'}"
        for position, index in enumerate(options):
            self.verdict.steps += 1
            one = self.candidates[index]
            if one.lease:
                after, events = lease_gone(state, revision - 1, one.lease)
            else:
                assert one.operation is not None
                after, events, _ = apply(state, revision - 1, one.operation.request)
            if not events:
                continue
            wrong = self._check(revision, after, events, None)
            if wrong:
                if not saw or len(options) == 1:
                    problem = f"with {one}: {wrong}"
                continue
            self._put(revision, after, events)
            self.used[revision] = index
            if one.operation is None:
                self.verdict.ended[revision] = one.lease
            else:
                self.verdict.placed[revision] = one.operation
            if position + 1 < len(options):
                choices.append((revision, options[position + 1 :]))
            return ""
        return problem

    def _take(self, revision: int, writer: Operation) -> str:
        """The write that was answered with this revision."""
        self.verdict.steps += 1
        after, events, body = apply(self.verdict.states[-1], revision - 1, writer.request)
        if body != writer.body:
            return f"the answer should be {body}: {describe(writer)}"
        problem = self._check(revision, after, events, writer)
        if not problem:
            self._put(revision, after, events)
        return problem

    def _put(self, revision: int, after: State, events: list[Event]) -> None:
        self.verdict.states.append(after)
        self.verdict.events[revision] = events

    def _check(self, revision: int, after: State, events: list[Event], writer: Operation | None) -> str:
        """What is wrong with `revision` having made these events and this state; nothing: an empty text."""
        made = {event.key: event for event in events}
        for key, event in self.seen.get(revision, {}).items():
            if made.get(key) != event:
                by = f" by {describe(writer)}" if writer else ""
                return f"somebody saw {event}, but it was {made.get(key, 'nothing')}{by}"
        for op in self.readers.get(revision, ()):
            if isinstance(op.request, Range) and op.request.revision:
                continue
            _, _, body = apply(after, revision, op.request)
            if body != op.body:
                return f"the answer should be {body}: {describe(op)}"
        for op in self.history.get(revision, ()):
            assert isinstance(op.request, Range)
            if (body := read(after, op.request)) != op.body:
                return f"the answer should be {body}: {describe(op)}"
        return ""


def _serializable(op: Operation) -> bool:
    return isinstance(op.request, Range) and op.request.serializable


def _old_reads(readers: dict[int, list[Operation]]) -> dict[int, list[Operation]]:
    """Reads of the past, by the revision that they asked for."""
    found: dict[int, list[Operation]] = defaultdict(list)
    for ops in readers.values():
        for op in ops:
            if isinstance(op.request, Range) and op.request.revision:
                found[op.request.revision].append(op)
    return found
