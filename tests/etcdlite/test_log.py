"""The log on disk and the log in memory: what a crash may leave behind, and what no crash explains."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kubeling.etcdlite.consensus.types import Entry
from kubeling.etcdlite.frames import CorruptLog
from kubeling.etcdlite.journal import Journal, NoSpace


def opened(path: Path, after: int = 0, segment: int = 1 << 16, term: int = 0) -> tuple[Journal, list[Entry]]:
    journal = Journal(path, 1, 2, segment)
    return journal, journal.open(after, term)


def append(journal: Journal, *entries: tuple[int, int, bytes]) -> None:
    for entry in entries:
        journal.add_entry(*entry)
    journal.write(journal.take())


def filled(path: Path, count: int = 20) -> list[Path]:
    journal, _ = opened(path)
    for index in range(1, count + 1):
        append(journal, (index, 1, b"data-%d" % index))
    # Not closed: a crash leaves the reserve at the end of the file.
    return sorted(path.glob("*.wal"))


def indices(entries: list[Entry]) -> list[int]:
    return [entry.index for entry in entries]


def test_entries_and_vote_are_there_after_a_crash(tmp_path: Path) -> None:
    journal, found = opened(tmp_path)
    assert found == []
    append(journal, (1, 1, b"one"), (2, 1, b"two"))
    journal.set_vote(5, 77)
    append(journal, (3, 5, b"three"))
    again, found = opened(tmp_path)
    assert found == [Entry(1, 1, b"one"), Entry(2, 1, b"two"), Entry(3, 5, b"three")]
    assert (again.term, again.vote) == (5, 77)


def test_an_entry_replaces_what_had_its_index_and_higher(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    append(journal, (1, 1, b"a"), (2, 1, b"b"), (3, 1, b"c"))
    append(journal, (2, 2, b"B"))
    assert opened(tmp_path)[1] == [Entry(1, 1, b"a"), Entry(2, 2, b"B")]


@pytest.mark.parametrize("cut", [1, 7, 25, 40])
def test_a_torn_tail_is_cut_and_writing_goes_on(tmp_path: Path, cut: int) -> None:
    (path,) = filled(tmp_path)
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data[:-cut])
    journal, found = opened(tmp_path)
    assert indices(found) == list(range(1, 20))
    append(journal, (20, 1, b"again"))
    assert opened(tmp_path)[1][-1] == Entry(20, 1, b"again")


def test_a_torn_tail_of_any_length_leaves_a_prefix(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, 4)
    data = path.read_bytes().rstrip(b"\0")
    for length in range(len(data)):
        path.write_bytes(data[:length] + bytes(50))
        journal, entries = opened(tmp_path)
        found = indices(entries)
        assert found == list(range(1, len(found) + 1))
        append(journal, (len(found) + 1, 2, b"next"))
        assert indices(opened(tmp_path)[1]) == [*found, len(found) + 1]
        path.unlink()


def test_damage_in_the_middle_is_refused_with_the_place(tmp_path: Path) -> None:
    (path,) = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"data-7")] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptLog, match=r"frame 7 at offset \d+ is damaged, and frame 8 after it is sound"):
        opened(tmp_path)


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path, segment=2000)
    for index in range(1, 200):
        append(journal, (index, 1, b"x" * 100))
    segments = sorted(tmp_path.glob("*.wal"))
    assert len(segments) > 5
    assert indices(opened(tmp_path)[1]) == list(range(1, 200))
    segments[2].unlink()
    with pytest.raises(CorruptLog, match="missing"):
        opened(tmp_path)


def test_segments_under_a_snapshot_are_deleted_and_the_vote_stays(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path, segment=2000)
    journal.set_vote(3, 9)
    for index in range(1, 200):
        append(journal, (index, 3, b"x" * 100))
    before = len(list(tmp_path.glob("*.wal")))
    while journal.release(150):
        pass
    assert len(list(tmp_path.glob("*.wal"))) < before / 2
    again, found = opened(tmp_path, after=150, term=3)
    assert indices(found) == list(range(151, 200))
    assert (again.term, again.vote) == (3, 9)
    with pytest.raises(CorruptLog, match="has no entry"):
        opened(tmp_path, after=10, term=3)


def test_a_log_of_another_member_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(CorruptLog, match="belongs to member 2 of cluster 1"):
        Journal(tmp_path, 1, 3).open(0, 0)


def test_a_full_disk_refuses_the_batch_and_keeps_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _ = opened(tmp_path)
    append(journal, (1, 1, b"kept"))
    real = os.pwrite

    def half(fd: int, data: bytes, at: int) -> int:
        if len(data) > 20:
            return real(fd, bytes(data)[:20], at)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(NoSpace):
        append(journal, (2, 1, b"refused" * 10))
    monkeypatch.undo()
    append(journal, (2, 1, b"later"))
    assert opened(tmp_path)[1] == [Entry(1, 1, b"kept"), Entry(2, 1, b"later")]


def test_a_log_of_another_history_than_the_snapshot_is_dropped_for_good(tmp_path: Path) -> None:
    # A crash between the renaming of a leader's snapshot and the record that begins the log anew after it.
    journal, _ = opened(tmp_path)
    append(journal, *((index, 1, b"old") for index in range(2, 9)))
    for after, term in ((6, 2), (20, 2)):
        journal, found = opened(tmp_path, after=after, term=term)
        assert found == []
        append(journal, (after + 1, term, b"new"))
        journal.close()
        assert [(one.index, one.term) for one in opened(tmp_path, after=after, term=term)[1]] == [(after + 1, term)]


def test_a_log_that_reaches_beyond_the_snapshot_stays(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    append(journal, *((index, 1, b"old") for index in range(2, 9)))
    assert indices(opened(tmp_path, after=6, term=1)[1]) == [7, 8]
