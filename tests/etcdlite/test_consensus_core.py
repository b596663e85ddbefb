"""Single rules of the consensus core, each by hand, without a network: what the simulation would need many schedules to meet."""

from __future__ import annotations

import random

import pytest

from kubeling.etcdlite.consensus import messages as m
from kubeling.etcdlite.consensus.codec import BadMessage, decode, encode
from kubeling.etcdlite.consensus.configuration import (
    Change,
    ChangeKind,
    Configuration,
    Member,
    decode_configuration,
    encode_configuration,
    tag_of,
)
from kubeling.etcdlite.consensus.core import Core, Start
from kubeling.etcdlite.consensus.errors import ChangeInFlight, LastVoter, NotInSync, NotLeader
from kubeling.etcdlite.consensus.types import Entry, HardState, Output, Settings, SnapshotMark

THREE = Configuration([Member(1), Member(2), Member(3)])
SNAPSHOT = SnapshotMark(5, 2, encode_configuration(THREE))


def core(configuration: Configuration = THREE, **start: object) -> Core:
    return Core(1, Settings(), Start(configuration=configuration, **start), random.Random(1), 0.0)  # type: ignore[arg-type]


def turn(member: Core, *, durable: bool = True) -> list[Output]:
    """All that it has to say, with its disk keeping up or not."""
    outputs = []
    while member.has_output:
        outputs.append(member.take())
        if durable:
            member.persisted(outputs[-1].sequence)
    return outputs


def sent(outputs: list[Output], kind: type[m.Message]) -> list[m.Message]:
    return [message for output in outputs for message in output.messages if isinstance(message, kind)]


def leader() -> Core:
    member = core()
    member.tick(1.0)
    member.step(m.PreVoteReply(2, 1, 1, True), 1.0)
    turn(member)
    member.step(m.VoteReply(2, 1, 1, True), 1.0)
    turn(member)
    assert member.is_leader
    return member


def acknowledge(member: Core, follower: int, index: int, term: int | None = None) -> None:
    member.step(m.AppendReply(follower, 1, member.term if term is None else term, index, True, 0, 0, False), member.now)


def test_a_single_voter_needs_no_time() -> None:
    alone = core(Configuration([Member(1)]))
    alone.tick(0.0)
    turn(alone)
    assert alone.alone
    assert alone.next_deadline() is None
    alone.propose(b"\0x")
    assert not [entry for output in turn(alone, durable=False) for entry in output.committed]
    alone.persisted(1 << 30)
    assert [entry.data for output in turn(alone) for entry in output.committed] == [b"\0x"]


def test_an_acknowledgement_of_an_earlier_term_counts_for_nothing() -> None:
    member = leader()
    acknowledge(member, 2, member.last_index, term=member.term - 1)
    assert member.commit < member.last_index
    acknowledge(member, 2, member.last_index)
    assert member.commit == member.last_index


def test_a_leader_counts_its_own_copy_when_it_is_durable() -> None:
    member = leader()
    member.propose(b"\0x")
    turn(member, durable=False)
    acknowledge(member, 2, member.last_index)
    assert member.commit < member.last_index
    member.persisted(1 << 30)
    assert member.commit == member.last_index


def test_a_follower_acknowledges_what_is_durable() -> None:
    member = core()
    member.step(m.Append(2, 1, 1, 1, 0, 1, (Entry(2, 1, b"\0x"),)), 0.0)
    assert not sent(turn(member, durable=False), m.AppendReply)
    member.persisted(1 << 30)
    assert [reply.index for reply in sent(turn(member), m.AppendReply)] == [2]  # type: ignore[attr-defined]


def test_a_snapshot_never_replaces_what_is_there() -> None:
    entries = [Entry(index, 2, b"\0%d" % index) for index in range(2, 9)]
    member = core(hard_state=HardState(2, 2), entries=entries)
    member.step(m.InstallSnapshot(2, 1, 2, SNAPSHOT), 0.0)
    outputs = turn(member)
    assert not any(output.install for output in outputs)
    assert (member.last_index, member.commit) == (8, 5)


def test_a_snapshot_replaces_what_contradicts_it() -> None:
    entries = [Entry(index, 1, b"\0%d" % index) for index in range(2, 9)]
    member = core(hard_state=HardState(1, 2), entries=entries)
    member.step(m.InstallSnapshot(2, 1, 2, SNAPSHOT), 0.0)
    assert [output.install for output in turn(member) if output.install] == [SNAPSHOT]
    assert (member.last_index, member.applied) == (5, 5)


def test_a_read_waits_for_a_round_that_began_after_it() -> None:
    member = leader()
    acknowledge(member, 2, member.last_index)
    turn(member)
    before = member.reads.round
    member.read(7)
    turn(member)
    member.step(m.HeartbeatReply(2, 1, member.term, before, 0, False), member.now)
    assert not [read for output in turn(member) for read in output.reads]
    member.step(m.HeartbeatReply(2, 1, member.term, before + 1, 0, False), member.now)
    assert [(read.id, read.index) for output in turn(member) for read in output.reads] == [(7, member.commit)]


def test_reads_need_no_disk() -> None:
    member = leader()
    acknowledge(member, 2, member.last_index)
    turn(member)
    member.propose(b"\0the disk is full")
    member.read(7)
    turn(member, durable=False)
    member.step(m.HeartbeatReply(3, 1, member.term, member.reads.round, 0, False), member.now)
    assert [read.id for output in turn(member, durable=False) for read in output.reads] == [7]


def test_changes_are_refused_until_something_of_this_term_is_committed_and_one_at_a_time() -> None:
    member = leader()
    with pytest.raises(ChangeInFlight):
        member.change(Change(ChangeKind.ADD_LEARNER, 4))
    acknowledge(member, 2, member.last_index)
    turn(member)
    member.change(Change(ChangeKind.ADD_LEARNER, 4, b"info", b"tag"))
    assert member.configuration.learners == (4,)
    with pytest.raises(ChangeInFlight):
        member.change(Change(ChangeKind.REMOVE, 3))
    acknowledge(member, 2, member.last_index)
    [change] = [entry for output in turn(member) for entry in output.committed]
    assert tag_of(change.data) == b"tag"
    for _ in range(200):
        member.propose(b"\0x")
    with pytest.raises(NotInSync):
        member.change(Change(ChangeKind.PROMOTE, 4))


def test_a_configuration_goes_with_the_entry_that_is_cut() -> None:
    added = encode_configuration(THREE.with_member(Member(4)))
    member = core(hard_state=HardState(1, 2), entries=[Entry(2, 1, added)])
    assert 4 in member.configuration
    member.step(m.Append(3, 1, 2, 1, 0, 1, (Entry(2, 2, b"\0x"),)), 0.0)
    assert member.configuration == THREE


def test_the_last_voter_stays_and_only_leaders_change_members() -> None:
    alone = core(Configuration([Member(1)]))
    with pytest.raises(NotLeader):
        alone.change(Change(ChangeKind.REMOVE, 1))
    alone.tick(0.0)
    turn(alone)
    with pytest.raises(LastVoter):
        alone.change(Change(ChangeKind.REMOVE, 1))


def test_a_leader_that_hears_no_majority_steps_down() -> None:
    member = leader()
    member.tick(member.now + 3)
    assert not member.is_leader
    assert member.leader == 0


def test_leadership_goes_to_a_follower_once_it_has_everything() -> None:
    member = leader()
    member.transfer(3)
    assert not sent(turn(member), m.TimeoutNow)
    acknowledge(member, 3, member.last_index)
    assert [message.to for message in sent(turn(member), m.TimeoutNow)] == [3]


MESSAGES: list[m.Message] = [
    m.PreVote(2, 1, 3, 4, 5),
    m.PreVoteReply(2, 1, 3, True),
    m.Vote(2, 1, 3, 4, 5, False),
    m.VoteReply(2, 1, 3, True),
    m.Append(2, 1, 3, 4, 2, 3, (Entry(5, 3, b"\0abc"), Entry(6, 3, b"\1"))),
    m.AppendReply(2, 1, 3, 4, False, 3, 2, True),
    m.Heartbeat(2, 1, 3, 4, 5),
    m.HeartbeatReply(2, 1, 3, 4, 5, False),
    m.InstallSnapshot(2, 1, 3, SNAPSHOT),
    m.TimeoutNow(2, 1, 3),
    m.ReadIndex(2, 1, 3, 1 << 63),
    m.ReadIndexReply(2, 1, 3, 1 << 63, 9),
    m.Forward(2, 1, 3, b"\0x"),
    m.Recover(2, 1, 3, 7),
    m.RecoverReply(2, 1, 3, 7, 9),
    m.Stale(2, 1, 3),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire_and_garbage_does_not(message: m.Message) -> None:
    data = encode(message)
    assert decode(2, 1, data) == message
    if not isinstance(message, (m.Forward, m.InstallSnapshot)):
        for spoilt in (data[:-1], data + b"x", b"\xff" + data[1:], b""):
            with pytest.raises(BadMessage):
                decode(2, 1, spoilt)


def test_a_configuration_survives_the_disk() -> None:
    configuration = Configuration([Member(9, True, b"learner"), Member(1, False, b"voter")])
    assert decode_configuration(encode_configuration(configuration, b"tag")) == configuration
    with pytest.raises(ValueError, match="length"):
        decode_configuration(encode_configuration(configuration) + b"x")


def test_a_late_acknowledgement_does_not_end_the_asking() -> None:
    # Found by the simulation (seed 9538): a member without its disk was asked about the log's end, and an acknowledgement of something earlier came late.
    member = leader()
    for number in range(12):
        member.propose(b"\0%d" % number)
    turn(member)
    member.step(m.Recover(3, 1, member.term, 77), 1.1)
    turn(member)
    acknowledge(member, 3, 2)
    # The answer to the question itself is lost.
    member.step(m.HeartbeatReply(3, 1, member.term, member.reads.round, 2, True), 1.5)
    assert sent(turn(member), m.Append), "nobody would ever feed it again"


def test_a_lost_connection_to_the_leader_has_others_asked_soon() -> None:
    member = core()
    member.step(m.Heartbeat(2, 1, 1, 0, 0), 0.0)
    turn(member)
    assert member.next_deadline() >= 1.0
    member.unreachable(3)
    assert member.next_deadline() >= 1.0
    member.unreachable(2)
    assert member.next_deadline() < 0.5
    # Those who hear the leader themselves do not join in.
    other = core()
    other.step(m.Heartbeat(2, 1, 1, 0, 0), 0.0)
    other.step(m.PreVote(3, 1, 2, 5, 1), 0.2)
    assert not any(reply.granted for reply in sent(turn(other), m.PreVoteReply))  # type: ignore[attr-defined]


def test_who_removed_itself_and_forgot_what_is_committed_may_still_be_elected() -> None:
    # Found by the simulation (seed 30891): of two, the leader removes itself, and has more than the other when both start again.
    one, both = Configuration([Member(2)]), Configuration([Member(1), Member(2)])
    entries = [Entry(2, 1, encode_configuration(both)), Entry(3, 1, b"\0x"), Entry(4, 1, encode_configuration(one))]
    member = core(one, entries=entries, hard_state=HardState(1, 1))
    assert member.electable
    deadline = member.next_deadline()
    assert deadline is not None
    member.tick(deadline)
    assert sent(turn(member), m.PreVote)
