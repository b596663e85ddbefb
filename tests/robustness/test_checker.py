"""The linearizability checker is tested itself: it finds what is known to be bad, lets pass what is good, and agrees with the definition on random histories."""

from __future__ import annotations

import json
import random

import pytest

from .histories import any_order_explains, get, lost, random_history, spoiled, write
from .history import History
from .linearize import lease_times, linearize
from .operations import (
    KV,
    OK,
    Compare,
    Delete,
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
    WatchOpen,
    WatchResponse,
    from_json,
    to_json,
)
from .validate import compactions_are_final, revoked_leases_hold_nothing, validate

A1 = KV("a", "v1", 2, 2, 1)
SECOND = 1_000_000_000


def wrong(*operations: Operation) -> str:
    """What the checker says; it has to say something."""
    violations = linearize(operations).violations
    assert violations
    return violations[0]


def test_a_plain_history_passes() -> None:
    second = write(2, 30, 40, 3, previous=A1)
    assert not linearize(
        [write(1, 0, 10, 2), get(3, 20, 25, 2, A1), second, get(4, 50, 60, 3, KV("a", "v2", 2, 3, 2))]
    ).violations


def test_a_stale_linearizable_read() -> None:
    assert "stale linearizable read" in wrong(write(1, 0, 10, 2), get(2, 20, 30, 1))


def test_a_serializable_read_may_be_stale_but_not_wrong() -> None:
    assert not linearize([write(1, 0, 10, 2), get(2, 20, 30, 1, serializable=True)]).violations
    assert "the answer should be" in wrong(write(1, 0, 10, 2), get(2, 20, 30, 2, serializable=True))


def test_a_serializable_read_of_what_is_not_yet_written() -> None:
    # It showed revision 2 before the write that made it was called: so it was not what was committed.
    assert "stands before" in wrong(get(2, 0, 5, 2, A1, serializable=True), write(1, 10, 20, 2))


def test_reads_that_go_back() -> None:
    first = get(2, 20, 30, 2, A1)
    assert "stale" in wrong(write(1, 0, 100, 2), first, get(3, 40, 50, 1))


def test_a_lost_acknowledged_write_whose_revision_is_given_anew() -> None:
    assert "the same revision" in wrong(write(1, 0, 10, 2), write(2, 20, 30, 2))


def test_a_lost_acknowledged_write_that_a_reader_misses() -> None:
    assert "stale" in wrong(write(1, 0, 10, 2), write(2, 20, 30, 3, previous=A1), get(3, 40, 50, 2, A1))


def test_a_revision_that_nobody_made() -> None:
    assert "nobody can have made it" in wrong(write(1, 0, 10, 2), write(2, 20, 30, 4, previous=A1))


def test_a_dirty_read_of_a_refused_write() -> None:
    refused = lost(1, 0, Put("a", "v1"))
    refused.outcome = "failed"
    assert "nobody can have made it" in wrong(refused, get(2, 20, 30, 2, A1))


def test_a_write_of_unknown_outcome_may_have_happened_or_not_or_late() -> None:
    unknown = lost(1, 0, Put("a", "v1"))
    late = KV("a", "v1", 2, 3, 2)
    assert not linearize([unknown, get(2, 20, 30, 1)]).violations
    assert not linearize([unknown, get(2, 20, 30, 2, A1)]).violations
    verdict = linearize([unknown, write(3, 40, 50, 2), get(2, 60, 70, 3, late)])
    assert not verdict.violations
    assert verdict.placed == {3: unknown}


def test_a_write_of_unknown_outcome_does_not_happen_twice() -> None:
    twice = [get(2, 20, 30, 2, A1), get(3, 40, 50, 3, KV("a", "v1", 2, 3, 2))]
    assert "nobody can have made it" in wrong(lost(1, 0, Put("a", "v1")), *twice)


def test_a_write_of_unknown_outcome_does_not_happen_before_it_was_called() -> None:
    assert "nobody can have made it" in wrong(lost(1, 100, Put("a", "v1")), get(2, 20, 30, 2, A1))


def test_a_torn_transaction() -> None:
    both = Txn((), (Put("a", "x"), Put("b", "y")))
    answered = Operation(1, "c", "m", both, 0, 10, OK, 2, TxnBody(True, (PutBody(None), PutBody(None))))
    half = RangeBody((KV("a", "x", 2, 2, 1),), 1)
    assert "the answer should be" in wrong(answered, Operation(2, "c", "m", Range("a", "c"), 20, 30, OK, 2, half))


def test_a_comparison_that_was_answered_wrongly() -> None:
    create = Txn((Compare("a", "create", "=", 0),), (Put("a", "w"),))
    answered = Operation(2, "c", "m", create, 20, 30, OK, 3, TxnBody(True, (PutBody(A1),)))
    assert "the answer should be" in wrong(write(1, 0, 10, 2), answered)


def test_two_winners_of_a_compare_and_set() -> None:
    create = Txn((Compare("a", "create", "=", 0),), (Put("a", "w"),))
    won = [Operation(one, "c", "m", create, 0, 100, OK, one + 1, TxnBody(True, (PutBody(None),))) for one in (1, 2)]
    assert "the answer should be" in wrong(*won)


def test_the_search_goes_back_on_a_wrong_guess() -> None:
    # Either deletion explains revision 3; only b's leaves what is read at 5.
    history = [
        Operation(
            1, "c", "m", Txn((), (Put("a", "x"), Put("b", "y"))), 0, 10, OK, 2, TxnBody(True, (PutBody(None), PutBody(None)))
        ),
        lost(2, 20, Delete("a")),
        lost(3, 20, Delete("b")),
        Operation(4, "c", "m", Put("z", "z"), 30, 40, OK, 4, PutBody(None)),
        get(5, 50, 60, 4, KV("a", "x", 2, 2, 1)),
    ]
    verdict = linearize(history)
    assert not verdict.violations
    assert verdict.placed == {3: history[2]}


def test_what_a_watcher_saw_decides_between_unknown_outcomes() -> None:
    history = [write(1, 0, 10, 2), lost(2, 20, Put("a", "p")), lost(3, 20, Put("a", "q")), write(4, 30, 40, 4, previous=None)]
    history[3].body = PutBody(KV("a", "q", 2, 3, 2))
    assert linearize(history).placed == {3: history[2]}
    event = Event("a", 3, KV("a", "p", 2, 3, 2))
    watch = Watching(0, "w", "m", 0, WatchOpen("a"), [WatchResponse(35, 3, ((event, None),))])
    assert "seen differently" in linearize(history, [watch]).violations[0]


def lease_history(deleted_at: int) -> list[Operation]:
    put = Operation(2, "c", "m", Put("a", "x", 7), 2, 3, OK, 2, PutBody(None))
    return [
        Operation(1, "c", "m", Grant(7, 2), 0, 1, OK, 0, LeaseBody(2)),
        put,
        Operation(3, "c", "m", KeepAlive(7), SECOND, SECOND + 1, OK, 0, LeaseBody(2)),
        get(4, deleted_at, deleted_at + 1, 3),
    ]


def test_a_lease_ends_in_its_time_and_not_before() -> None:
    for at, fine in ((4 * SECOND, True), (2 * SECOND, False)):
        history = lease_history(at)
        verdict = linearize(history)
        assert not verdict.violations
        assert verdict.ended == {3: 7}
        # The keep-alive at 1 s is good until 3 s.
        assert bool(lease_times(history, (), verdict)) != fine


def test_a_revoked_lease_holds_nothing() -> None:
    history = lease_history(4 * SECOND)[:2]
    revoke = Operation(3, "c", "m", Revoke(7), 10, 20, OK)
    assert not linearize([*history, revoke, get(4, 30, 40, 3)]).violations
    stays = get(4, 30, 40, 2, KV("a", "x", 2, 2, 1, 7))
    assert "revoked lease" in revoked_leases_hold_nothing([*history, revoke, stays])[0]


def test_reads_of_the_past() -> None:
    past = Operation(3, "c", "m", Range("a", revision=2), 50, 60, OK, 3, RangeBody((A1,), 1))
    history = [write(1, 0, 10, 2), write(2, 20, 30, 3, previous=A1), past]
    assert not linearize(history).violations
    past.body = RangeBody((), 0)
    assert "the answer should be" in wrong(*history)


def test_compactions() -> None:
    past = Operation(
        3, "c", "m", Range("a", revision=2), 50, 60, "failed", error="OUT_OF_RANGE: required revision has been compacted"
    )
    assert "nobody had compacted" in compactions_are_final([past])[0]
    future = Operation(
        4, "c", "m", Range("a", revision=2), 50, 60, "failed", error="OUT_OF_RANGE: required revision is a future revision"
    )
    assert "refused as the future" in compactions_are_final([write(1, 0, 10, 2), future])[0]


def test_what_takes_too_long_is_no_pass() -> None:
    # Nothing tells which of many puts came when, and no order of them leaves the key empty.
    unknown = [lost(10 + number, 20, Put("k", f"p{number}")) for number in range(40)]
    verdict = linearize([*unknown, write(1, 30, 40, 30, key="z"), get(2, 50, 60, 30, key="k")], max_steps=20_000)
    assert verdict.undecided
    assert verdict.violations


@pytest.mark.parametrize("seed", range(8))
def test_the_checker_agrees_with_the_definition(seed: int) -> None:
    """On small random histories, right and spoiled ones, the answer is that of trying all orders."""
    rng = random.Random(seed)
    bad = 0
    for _ in range(60):
        history = random_history(rng, rng.randrange(2, 8))
        assert not linearize(history).violations, history
        for _ in range(3):
            changed = spoiled(rng, history)
            expected = any_order_explains(changed)
            bad += not expected
            assert (not linearize(changed).violations) == expected, (linearize(changed).violations, changed)
    assert bad > 20


def test_a_history_survives_its_file(tmp_path: object) -> None:
    history = History()
    history.operations = random_history(random.Random(1), 20)
    event = Event("a", 2, A1)
    history.watches = [
        Watching(0, "w", "m", 5, WatchOpen("a", filters=("noput",)), [WatchResponse(6, 2, ((event, A1),))], 9, "x", 2)
    ]
    history.note("kill", member="m1")
    from pathlib import Path

    path = Path(str(tmp_path)) / "history.jsonl"
    history.save(path)
    loaded = History.load(path)
    assert sorted(loaded.operations, key=lambda op: op.id) == sorted(history.operations, key=lambda op: op.id)
    assert loaded.watches == history.watches
    assert len(loaded.notes) == 1
    assert from_json(json.loads(json.dumps(to_json(history.watches[0])))) == history.watches[0]
    validate(loaded)
