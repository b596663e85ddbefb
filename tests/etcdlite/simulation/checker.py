"""What must hold at every moment of every schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubeling.etcdlite.consensus.core import Core
from kubeling.etcdlite.consensus.types import Entry

if TYPE_CHECKING:
    from .member import SimMember


class Violation(AssertionError):
    """A promise was broken."""


class Checker:
    """Told of every step; it keeps what the whole cluster has ever done."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        #: Every entry that was ever in anybody's log: its data and the term of the one before it. That both are unique is log matching, by induction.
        self.written: dict[tuple[int, int], tuple[bytes, int]] = {}
        #: Every entry that anybody ever took for committed.
        self.committed: dict[int, int] = {}
        #: In which term that was first the case: a leader of an earlier term (elected late, by votes that had been given long ago) need not have it.
        self.committed_in: dict[int, int] = {}
        self.highest = 1
        #: What a read that begins now must see at least.
        self.floor = 1
        self.votes: dict[tuple[int, int], int] = {}

    def stepped(self, member: SimMember) -> None:
        """A member has done something."""
        core = member.core
        if core.is_leader and self.leaders.get(core.term) != core.me:
            self._new_leader(core)
        if core.commit > member.seen_commit:
            self._committed(member)

    def _new_leader(self, core: Core) -> None:
        former = self.leaders.setdefault(core.term, core.me)
        if former != core.me:
            raise Violation(f"one leader a term: {former} and {core.me} both lead term {core.term}")
        for index in range(core.first_index, self.highest + 1):
            due = self.committed_in.get(index, core.term) < core.term
            if due and core.term_at(index) != self.committed[index]:
                raise Violation(
                    f"leader completeness: {core.me} leads term {core.term} without entry {index} of term {self.committed[index]}"
                )

    def _committed(self, member: SimMember) -> None:
        core = member.core
        for index in range(max(member.seen_commit + 1, core.first_index), core.commit + 1):
            term = core.term_at(index)
            assert term is not None
            if self.committed.setdefault(index, term) != term:
                raise Violation(
                    f"applied prefixes: entry {index} is committed as of term {self.committed[index]}, and of {term} at {core.me}"
                )
            if index > self.highest:
                self.highest = index
                self.committed_in[index] = core.term
                self._on_a_quorum(member, index, term)
        member.seen_commit = core.commit

    def _on_a_quorum(self, member: SimMember, index: int, term: int) -> None:
        """When an entry is first taken for committed a majority has it on disk (or had it, before it was emptied)."""
        configuration = member.core.configuration
        members = member.world.members
        holders = [
            voter
            for voter in configuration.voters
            if voter in members and (members[voter].wiped or members[voter].disk.holds(index, term))
        ]
        if len(holders) < configuration.quorum:
            raise Violation(
                f"durability: {member.core.me} took entry {index} for committed with only {holders} having it on disk"
            )

    def writing(self, core: Core, entries: list[Entry]) -> None:
        """A member puts entries into its log."""
        for entry in entries:
            before = core.term_at(entry.index - 1)
            known = self.written.setdefault((entry.index, entry.term), (entry.data, before if before is not None else -1))
            if known[0] != entry.data or (before is not None and known[1] not in (-1, before)):
                raise Violation(f"log matching: entry {entry.index} of term {entry.term} is not the same everywhere")
            if entry.data[0] == 2:
                self._one_change(core, entry)

    def _one_change(self, core: Core, entry: Entry) -> None:
        before = core.configuration_at(entry.index - 1)
        after = core.configuration_at(entry.index)
        if before.voters and len(set(before.voters) ^ set(after.voters)) > 1:
            raise Violation(f"one change at a time: {before} became {after}")
        if core.is_leader and entry.term == core.term and before != after:
            earlier = [index for index, _ in core.log._configurations if core.commit < index < entry.index]
            if earlier:
                raise Violation(
                    f"one change in flight: entry {entry.index} changes the members while {earlier} are not committed"
                )

    def voted(self, member: int, term: int, candidate: int) -> None:
        """A vote leaves its voter."""
        if self.votes.setdefault((member, term), candidate) != candidate:
            raise Violation(f"one vote a term: {member} votes in term {term} for {self.votes[member, term]} and for {candidate}")

    def acknowledged(self, index: int) -> None:
        """A client was told that the entry at that index is done, or a read has seen it."""
        self.floor = max(self.floor, index)
