"""A validator for each thing that etcd promises of a watch. Each takes what was delivered and what the history was, and returns what it found wrong.

The history is that of the linearizability check: which events each revision made. So a watch is not believed about itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .linearize import FIRST_REVISION, Verdict
from .model import covers, has_effect
from .operations import FAILED, OK, Compact, Event, Operation, Watching

_SHOWN = 5


def ordered(watch: Watching, truth: Verdict) -> Iterator[str]:
    """Events come by revision, never one from before what came already."""
    last = 0
    for response in watch.responses:
        for event, _ in response.events:
            if event.revision < last:
                yield f"{event} after revision {last}"
            last = max(last, event.revision)


def unique(watch: Watching, truth: Verdict) -> Iterator[str]:
    """No event comes twice."""
    seen: set[tuple[str, int]] = set()
    for response in watch.responses:
        for event, _ in response.events:
            if (event.key, event.revision) in seen:
                yield f"{event} twice"
            seen.add((event.key, event.revision))


def atomic(watch: Watching, truth: Verdict) -> Iterator[str]:
    """What one revision did comes in one message."""
    messages: dict[int, int] = {}
    for number, response in enumerate(watch.responses):
        for event, _ in response.events:
            if messages.setdefault(event.revision, number) != number:
                yield f"revision {event.revision} in messages {messages[event.revision]} and {number}"


def reliable(watch: Watching, truth: Verdict) -> Iterator[str]:
    """Between the first and the last event that came none was left out; and a watch that was followed to its end has all."""
    delivered = {(event.key, event.revision) for response in watch.responses for event, _ in response.events}
    last = watch.expected or max((event.revision for response in watch.responses for event, _ in response.events), default=0)
    first = min((event.revision for response in watch.responses for event, _ in response.events), default=last + 1)
    for event in expected_events(watch, truth, first, last):
        if (event.key, event.revision) not in delivered:
            yield f"{event} was not delivered, but revision {last} was reached"


def resumable(watch: Watching, truth: Verdict) -> Iterator[str]:
    """A watch begins with the very first event from its start revision on (without one: from its creation on), and with none before it."""
    start = _start(watch)
    if start is None:
        return
    events = [event for response in watch.responses for event, _ in response.events]
    for event in events:
        if event.revision < start:
            yield f"{event} from before the start {start}"
    if not events:
        return
    first = min(event.revision for event in events)
    for event in expected_events(watch, truth, start, first - 1):
        yield f"{event} was left out at the start ({start}): the first that came was of revision {first}"


def bookmarkable(watch: Watching, truth: Verdict) -> Iterator[str]:
    """A message without events says: all up to its revision has been delivered. Then nothing from before it comes, and nothing is missing."""
    start = _start(watch)
    marked = reached = 0
    for response in watch.responses:
        for event, _ in response.events:
            if event.revision <= marked:
                yield f"{event} after a bookmark of revision {marked}"
            reached = max(reached, event.revision)
        if response.bookmark:
            if response.revision < reached:
                yield f"a bookmark of revision {response.revision} after an event of {reached}"
            if start is not None and response.revision < start - 1:
                yield f"a bookmark of revision {response.revision} on a watch that begins at {start}"
            if start is not None and response.revision >= start:
                missing = expected_events(watch, truth, max(start, reached + 1), response.revision)
                for event in missing:
                    yield f"{event} had not been delivered at the bookmark of revision {response.revision}"
            marked = max(marked, response.revision)


def truthful(watch: Watching, truth: Verdict) -> Iterator[str]:
    """Every event is one that happened, in the watched range, not filtered out; and the previous value, where it was asked for, is the one before."""
    for response in watch.responses:
        for event, previous in response.events:
            if not wanted(watch, event):
                yield f"{event} was not asked for"
            if event not in truth.events.get(event.revision, ()):
                yield f"{event} never happened; revision {event.revision} was {truth.events.get(event.revision)}"
            elif watch.request.previous and FIRST_REVISION < event.revision <= truth.last:
                before = truth.state(event.revision - 1).get(event.key)
                # What was compacted cannot be shown any more.
                if previous is not None and previous != before:
                    yield f"{event} with previous {previous} instead of {before}"
            if response.revision < event.revision:
                yield f"{event} in a message of revision {response.revision}"


Validator = Callable[[Watching, Verdict], Iterator[str]]
GUARANTEES: dict[str, Validator] = {
    one.__name__: one for one in (ordered, unique, atomic, reliable, resumable, bookmarkable, truthful)
}


def judge(watches: Sequence[Watching], operations: Sequence[Operation], truth: Verdict) -> list[str]:
    """All that is wrong with how these watches were served."""
    found = []
    for watch in watches:
        for name, validator in GUARANTEES.items():
            for number, wrong in enumerate(validator(watch, truth)):
                if number < _SHOWN:
                    found.append(f"watch is not {name}: {_name(watch)}: {wrong}")
    return found + list(_compacted(watches, operations)) + list(_early(watches, operations, truth))


def _compacted(watches: Sequence[Watching], operations: Sequence[Operation]) -> Iterator[str]:
    """A watch is refused as compacted only where somebody compacted beyond its start."""
    asked = [(op.called, op.request.revision) for op in operations if isinstance(op.request, Compact) and op.outcome != FAILED]
    for watch in watches:
        for response in watch.responses:
            if not response.canceled or not response.compact_revision:
                continue
            if not any(called <= response.at and revision == response.compact_revision for called, revision in asked):
                yield f"watch is not resumable: {_name(watch)}: compacted at {response.compact_revision}, which nobody had asked for"
            events = [event.revision for one in watch.responses for event, _ in one.events]
            if max(events, default=watch.request.start - 1) + 1 >= response.compact_revision:
                yield f"watch is not resumable: {_name(watch)}: compacted at {response.compact_revision}, though it had all before that"


def _early(watches: Sequence[Watching], operations: Sequence[Operation], truth: Verdict) -> Iterator[str]:
    """No event is delivered before the write that made it was asked for."""
    called = {op.revision: op.called for op in operations if op.outcome == OK and has_effect(op.request, op.body)}
    called |= {revision: op.called for revision, op in truth.placed.items()}
    for watch in watches:
        for response in watch.responses:
            for event, _ in response.events:
                if response.at < called.get(event.revision, 0):
                    yield f"watch is not truthful: {_name(watch)}: {event} came before it was asked for"


def wanted(watch: Watching, event: Event) -> bool:
    """Whether a watch asked for this event."""
    request = watch.request
    if not covers(event.key, request.key, request.end):
        return False
    return ("nodelete" if event.kv is None else "noput") not in request.filters


def expected_events(watch: Watching, truth: Verdict, first: int, last: int) -> Iterator[Event]:
    """The events of the history from revision `first` to `last` that a watch asked for."""
    for revision in range(max(first, FIRST_REVISION + 1), last + 1):
        for event in truth.events.get(revision, ()):
            if wanted(watch, event):
                yield event


def _start(watch: Watching) -> int | None:
    """The revision that a watch begins with; None where it never was created."""
    if watch.request.start:
        return watch.request.start
    return next((response.revision + 1 for response in watch.responses if response.created), None)


def _name(watch: Watching) -> str:
    end = f" to {watch.request.end}" if watch.request.end else ""
    return f"{watch.client}@{watch.member} #{watch.id} of {watch.request.key}{end} from {watch.request.start}"
