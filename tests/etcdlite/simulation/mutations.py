"""Deliberate bugs, each the kind that a consensus core might have: the simulation has to find every one of them.

Each is a function that changes :class:`Core` for the time of a test, with ``patch(name, method)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeling.etcdlite.consensus import messages as m
from kubeling.etcdlite.consensus.configuration import Configuration
from kubeling.etcdlite.consensus.core import Core
from kubeling.etcdlite.consensus.types import HardState, ReadReady

Patch = Callable[[type, str, Any], None]


def acknowledge_before_the_fsync(patch: Patch) -> None:
    """A follower says that it has entries when they are only in memory."""
    patch(Core, "_durable_after", lambda core, index: 0)


def leader_counts_itself_before_the_fsync(patch: Patch) -> None:
    """A leader takes its own copy for durable at once."""

    def settle(core: Core) -> None:
        core.log.durable = core.log.last_index
        original(core)

    original = Core._commit_what_is_settled
    patch(Core, "_commit_what_is_settled", settle)


def vote_twice(patch: Patch) -> None:
    """A vote is given to whoever asks."""
    patch(Core, "_may_vote_for", lambda core, candidate: True)


def forget_the_vote(patch: Patch) -> None:
    """The vote is never written, only the term."""

    def take(core: Core) -> Any:
        output = original(core)
        if output.hard_state is not None:
            output.hard_state = HardState(output.hard_state.term, 0)
        return output

    original = Core.take
    patch(Core, "take", take)


def promise_before_the_vote_is_durable(patch: Patch) -> None:
    """Messages do not wait for the term and vote that they rely on."""

    def send(core: Core, message: m.Message, after: int = 0) -> None:
        core._hard_sequence = 0
        original(core, message, after)

    original = Core._send
    patch(Core, "_send", send)


def commit_entries_of_earlier_terms(patch: Patch) -> None:
    """Copies are counted for entries of any term (the Raft paper's figure 8)."""
    patch(Core, "_may_commit", lambda core, index: True)


def elect_without_looking_at_the_log(patch: Patch) -> None:
    """A candidate gets the vote of those who have more than it has."""
    patch(Core, "_up_to_date", lambda core, message: True)


def configuration_counts_when_applied(patch: Patch) -> None:
    """A change of the members counts only once it is committed, so that changes may be made from what is not the newest."""

    def configuration(core: Core) -> Configuration:
        return core.log.configuration_at(core.applied)

    patch(Core, "configuration", property(configuration))


def change_before_anything_of_the_term_is_committed(patch: Patch) -> None:
    """A new leader changes the members at once: the known hole of single-server changes."""

    def in_flight(core: Core) -> bool:
        changes = [index for index, _ in core.log._configurations if index > core.applied and index != core._term_start]
        return bool(changes)

    patch(Core, "_change_in_flight", in_flight)


def many_changes_at_once(patch: Patch) -> None:
    """Changes follow each other without waiting for the commit."""
    patch(Core, "_change_in_flight", lambda core: core.commit < core._term_start)


def read_without_a_round(patch: Patch) -> None:
    """A leader answers reads from what it knows, without asking whether it still leads."""

    def read_index(core: Core, message: m.ReadIndex) -> None:
        if core._read_index() is not None:
            core._send(m.ReadIndexReply(core.me, message.sender, core.term, message.id, core.commit))

    def read(core: Core, number: int) -> None:
        if core.is_leader and core._read_index() is not None:
            core._ready_reads.append(ReadReady(number, core.commit))
        else:
            core.own_reads.add(number)

    patch(Core, "_on_read_index", read_index)
    patch(Core, "read", read)


def read_before_anything_of_the_term_is_committed(patch: Patch) -> None:
    """A new leader takes its commit index for the last one's."""
    patch(Core, "_read_index", lambda core: core.commit)


def an_emptied_member_counts_at_once(patch: Patch) -> None:
    """A member that lost its disk votes and acknowledges as if nothing had been."""

    def load(disk: Any, recovering: bool) -> Any:
        return original(disk, False)

    from .disk import Disk

    original = Disk.load
    patch(Disk, "load", load)


def cut_what_is_the_same(patch: Patch) -> None:
    """A late, shorter append cuts off what came after it."""

    def take_entries(core: Core, entries: tuple[Any, ...]) -> None:
        if entries and entries[0].index <= core.log.last_index and entries[0].index > core.commit:
            core.log.cut(entries[0].index)
        original(core, entries)

    original = Core._take_entries
    patch(Core, "_take_entries", take_entries)


def trust_the_commit_index_blindly(patch: Patch) -> None:
    """A follower takes the leader's commit index for its own, whatever it has."""

    def advance(core: Core, index: int) -> None:
        core.commit = max(core.commit, index)

    def append(core: Core, message: m.Append) -> None:
        original(core, message)
        core.commit = max(core.commit, min(message.commit, core.log.last_index))

    original = Core._on_append
    patch(Core, "_advance_commit", advance)
    patch(Core, "_on_append", append)


#: By name.
MUTATIONS: dict[str, Callable[[Patch], None]] = {
    mutation.__name__: mutation
    for mutation in (
        acknowledge_before_the_fsync,
        leader_counts_itself_before_the_fsync,
        vote_twice,
        forget_the_vote,
        promise_before_the_vote_is_durable,
        commit_entries_of_earlier_terms,
        elect_without_looking_at_the_log,
        configuration_counts_when_applied,
        change_before_anything_of_the_term_is_committed,
        many_changes_at_once,
        read_without_a_round,
        read_before_anything_of_the_term_is_committed,
        an_emptied_member_counts_at_once,
        cut_what_is_the_same,
        trust_the_commit_index_blindly,
    )
}
