"""The state machine by transcript: testdata/*.txt, and what is easier said in code."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from google.protobuf import text_format

from kubeling.etcdlite import mvcc, requests
from kubeling.etcdlite.backup import hash_of
from kubeling.etcdlite.errors import COMPACTED, EtcdError
from kubeling.etcdlite.keys import SortedKeys
from kubeling.etcdlite.mvcc import Store
from kubeling.etcdlite.ops import Kind
from kubeling.etcdlite.state import State
from kubeling.etcdlite.wire import HeaderMaker
from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import mvcc_pb2

from .transcript import play

TRANSCRIPTS = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


class Shell:
    """Commands of the transcripts, run against a state machine under a clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.state = State(HeaderMaker(0, 0), lambda: self.now)
        self.state.leases.promote(0)
        self.branches: dict[str, list[pb.RequestOp]] = {"then": [], "else": []}
        self.compares: list[pb.Compare] = []

    def run(self, words: list[str]) -> str:
        try:
            return getattr(self, words[0])(*words[1:])
        except EtcdError as error:
            return repr(error)

    def _do(self, kind: Kind, request: object, answer_type: type) -> str:
        raw = self.state.apply(kind, request)
        if isinstance(raw, EtcdError):
            return repr(raw)
        return show(answer_type.FromString(raw))

    def put(self, key: str, value: str, *options: str) -> str:
        request = pb.PutRequest(key=key.encode(), value=value.encode() if value != "-" else b"", **parse(options))
        requests.check_put(request)
        return self._do(Kind.PUT, request, pb.PutResponse)

    def get(self, key: str, *options: str) -> str:
        request = self._range(key, options)
        requests.check_range(request)
        return show(
            pb.RangeResponse.FromString(self.state.header(self.state.store.revision) + self.state.evaluator.range(request))
        )

    def delete(self, key: str, *options: str) -> str:
        start, end = span(key)
        request = pb.DeleteRangeRequest(key=start, range_end=end, **parse(options))
        return self._do(Kind.DELETE_RANGE, request, pb.DeleteRangeResponse)

    def compact(self, revision: str) -> str:
        return self._do(Kind.COMPACT, pb.CompactionRequest(revision=int(revision)), pb.CompactionResponse)

    def scrub(self) -> str:
        before = len(self.state.store._log)
        while self.state.store.scrub(1):
            pass
        return f"log {before} -> {len(self.state.store._log)}, keys {len(self.state.store)}"

    def log(self, revision: str) -> str:
        return "\n".join(
            f"{one.mod} {'delete' if not one.version else 'put'} {one.key.decode()}"
            + (f" was {one.live_prev.value.decode()}" if one.live_prev else "")
            for one in self.state.store.events_from(int(revision), 100)
        )

    def grant(self, lease: str, ttl: str) -> str:
        return self._do(Kind.LEASE_GRANT, pb.LeaseGrantRequest(ID=int(lease), TTL=int(ttl)), pb.LeaseGrantResponse)

    def revoke(self, lease: str) -> str:
        return self._do(Kind.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=int(lease)), pb.LeaseRevokeResponse)

    def renew(self, lease: str) -> str:
        return f"ttl {self.state.leases.renew(int(lease), self.now)}"

    def lease(self, lease: str) -> str:
        found = self.state.leases.get(int(lease))
        keys = " ".join(key.decode() for key in sorted(found.keys))
        return f"granted {found.ttl}, left {self.state.leases.remaining(int(lease), self.now)}, keys: {keys}".rstrip()

    def wait(self, seconds: str) -> str:
        self.now += float(seconds)
        return "expired: " + " ".join(map(str, self.state.leases.expired(self.now)))

    # A transaction is said line by line: `if`, `then` and `else` gather, `txn` does it.

    def when(self, *text: str) -> str:
        self.compares.append(text_format.Parse(" ".join(text), pb.Compare()))
        return ""

    def then(self, *words: str) -> str:
        return self._gather("then", words)

    def otherwise(self, *words: str) -> str:
        return self._gather("else", words)

    def txn(self) -> str:
        request = pb.TxnRequest(compare=self.compares, success=self.branches["then"], failure=self.branches["else"])
        self.compares, self.branches = [], {"then": [], "else": []}
        requests.check_txn(request, 128)
        return self._do(Kind.TXN, request, pb.TxnResponse)

    def _gather(self, branch: str, words: tuple[str, ...]) -> str:
        if words[0] == "put":
            op = pb.RequestOp(request_put=pb.PutRequest(key=words[1].encode(), value=words[2].encode(), **parse(words[3:])))
        elif words[0] == "get":
            op = pb.RequestOp(request_range=self._range(words[1], words[2:]))
        elif words[0] == "delete":
            start, end = span(words[1])
            op = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=start, range_end=end, **parse(words[2:])))
        else:
            op = pb.RequestOp(request_txn=text_format.Parse(" ".join(words[1:]), pb.TxnRequest()))
        self.branches[branch].append(op)
        return ""

    def _range(self, key: str, options: tuple[str, ...]) -> pb.RangeRequest:
        start, end = span(key)
        return pb.RangeRequest(key=start, range_end=end, **parse(options))


def span(key: str) -> tuple[bytes, bytes]:
    """``a`` is one key, ``a..c`` the keys from a up to c, ``a..`` all from a on, ``..`` everything."""
    start, dots, end = key.partition("..")
    if not dots:
        return start.encode(), b""
    return start.encode() or b"\x00", end.encode() or b"\x00"


def parse(options: tuple[str, ...]) -> dict:  # type: ignore[type-arg]
    """``limit=2 keys_only`` as fields."""
    pairs = (one.partition("=") for one in options)
    return {name: (value if not value.lstrip("-").isdigit() else int(value)) if equals else True for name, equals, value in pairs}


def show(message: object) -> str:
    """An answer on few lines, without the header's ids."""
    lines = []
    for field, value in message.ListFields():  # type: ignore[attr-defined]
        if field.name == "header":
            lines.append(f"revision {value.revision}")
        elif field.name in ("kvs", "prev_kvs"):
            lines += [("was " if field.name == "prev_kvs" else "") + show_kv(kv) for kv in value]
        elif field.name == "prev_kv":
            lines.append("was " + show_kv(value))
        elif field.name == "responses":
            for response in value:
                inner = getattr(response, response.WhichOneof("response"))
                lines += ["  " + line for line in show(inner).splitlines()]
        else:
            lines.append(f"{field.name} {str(value).lower()}")
    return "\n".join(lines)


def show_kv(kv: mvcc_pb2.KeyValue) -> str:
    lease = f" lease {kv.lease}" if kv.lease else ""
    return f"{kv.key.decode()}={kv.value.decode()} create {kv.create_revision} mod {kv.mod_revision} version {kv.version}{lease}"


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    play(path, Shell().run)


@pytest.mark.parametrize("seed", range(8))
def test_reads_at_every_revision_agree_with_a_plain_model_also_after_compaction_and_restore(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Short chains count as long, so that their indexes come and go.
    monkeypatch.setattr(mvcc, "_LONG_WALK", 2)
    monkeypatch.setattr(mvcc, "_MAX_HOT", 5)
    monkeypatch.setattr(mvcc, "_MIN_LOOK", 2)
    rand = random.Random(seed)
    store, model = Store(), {1: dict[bytes, bytes]()}
    for _ in range(300):
        current = dict(model[store.revision])
        for key in rand.sample([b"k%d" % number for number in range(20)], rand.randint(1, 3)):
            if rand.random() < 0.3:
                store.delete_range(key, b"")
                current.pop(key, None)
            else:
                value = b"%d" % rand.randint(0, 999)
                store.put(key, value, 0)
                current[key] = value
        store.commit()
        model[store.revision] = current
        revision = rand.randint(max(store.compact_revision, 1), store.revision)
        assert {record.key: record.value for record in store.range(b"\x00", b"\x00", revision)} == model[revision]
        if rand.random() < 0.02 and store.revision > store.compact_revision + 5:
            store.compact(rand.randint(store.compact_revision + 1, store.revision))
            while rand.random() < 0.8 and store.scrub(3):
                pass
    restored = Store()
    records = store.records()
    subs = [(at, record.sub) for at, record in enumerate(records)]
    restored.restore(store.revision, store.compact_revision, [record.wire for record in records], subs)
    hashes = {hash_of(one.hashed(store.revision)) for one in (store, restored)}
    while store.scrub(10):
        pass
    assert hashes == {hash_of(store.hashed(store.revision))}
    assert restored.size == store.size
    for one in (store, restored):
        for revision in range(max(one.compact_revision, 1), one.revision + 1):
            assert {record.key: record.value for record in one.range(b"\x00", b"\x00", revision)} == model[revision]
        for revision in (0, *range(max(one.compact_revision, 1), one.revision + 1)):
            now = model[revision or store.revision]
            for low, high in ((b"\x00", b"\x00"), (b"k1", b"k7"), (b"k7", b"k1"), (b"k15", b"\x00")):
                wanted = sorted(key for key in now if key >= low and (high == b"\x00" or key < high))
                for limit in (0, 1, 3, 99):
                    page, count = one.first(low, high, limit, revision)
                    assert ([(record.key, record.value) for record in page], count) == (
                        [(key, now[key]) for key in wanted[:limit]],
                        len(wanted),
                    )
        with pytest.raises(EtcdError) as error:
            one.range(b"a", b"", one.compact_revision - 1)
        assert error.value is COMPACTED
    events = [[(r.mod, r.key, r.version) for r in one.events_from(one.compact_revision, 10_000)] for one in (store, restored)]
    assert events[0] == events[1]


def test_sorted_keys_stay_sorted_over_many_chunks() -> None:
    rand = random.Random(3)
    keys, model = SortedKeys(), set[bytes]()
    for _ in range(20_000):
        key = b"%d" % rand.randint(0, 9000)
        if key in model and rand.random() < 0.4:
            keys.remove(key)
            model.discard(key)
        elif key not in model:
            keys.add(key)
            model.add(key)
    ordered = sorted(model)
    assert list(keys) == ordered
    assert len(keys) == len(ordered)
    for _ in range(200):
        low, high = sorted((b"%d" % rand.randint(0, 9999), b"%d" % rand.randint(0, 9999)))
        assert keys.between(low, high) == [key for key in ordered if low <= key < high]
        assert keys.count(low, high) == len(keys.between(low, high))
        assert keys.between(low, high, 5)[:5] == keys.between(low, high)[:5]
        assert keys.between(low, None) == [key for key in ordered if low <= key]
