"""The requests, encoded and framed beforehand."""

from __future__ import annotations

from kubeling.bench.etcd.h2 import Unary, message
from kubeling.proto import etcd_pb2 as pb

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
COMPACT = "/etcdserverpb.KV/Compact"
WATCH = "/etcdserverpb.Watch/Watch"
GRANT = "/etcdserverpb.Lease/LeaseGrant"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
STATUS = "/etcdserverpb.Maintenance/Status"
SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"

#: Keys as long as those of an apiserver.
PREFIX = b"/registry/configmaps/default/bench-"


def key(number: int) -> bytes:
    """The key with this number; keys sort as their numbers do."""
    return PREFIX + b"%08d" % number


def value(size: int) -> bytes:
    """A value that looks like data, not like zeros."""
    return (b"0123456789abcdefghijklmnopqrstuvwxyz" * (size // 36 + 1))[:size]


def puts(numbers: range, size: int) -> list[bytes]:
    """A put for each key."""
    return [message(pb.PutRequest(key=key(number), value=value(size)).SerializeToString()) for number in numbers]


def gets(numbers: range, *, serializable: bool) -> list[bytes]:
    """A get for each key."""
    return [message(pb.RangeRequest(key=key(number), serializable=serializable).SerializeToString()) for number in numbers]


def pages(starts: range, limit: int) -> list[bytes]:
    """Ranges of `limit` keys, each from another start on."""
    end = PREFIX + b"\xff"
    return [message(pb.RangeRequest(key=key(start), range_end=end, limit=limit).SerializeToString()) for start in starts]


def old_pages(starts: range, limit: int, revision: int) -> list[bytes]:
    """The same at a revision of the past, as an apiserver's pages after the first are."""
    end = PREFIX + b"\xff"
    return [
        message(pb.RangeRequest(key=key(start), range_end=end, limit=limit, revision=revision).SerializeToString())
        for start in starts
    ]


def revision(url: str) -> int:
    """The store's revision."""
    ask = Unary(url, RANGE)
    answer = pb.RangeResponse.FromString(ask(pb.RangeRequest(key=b"none").SerializeToString()))
    ask.close()
    return answer.header.revision


def leader(urls: list[str]) -> int:
    """Which of the members leads, by its place in `urls`; -1 where none does."""
    for at, url in enumerate(urls):
        ask = Unary(url, STATUS)
        status = pb.StatusResponse.FromString(ask(pb.StatusRequest().SerializeToString()))
        ask.close()
        if status.leader and status.leader == status.header.member_id:
            return at
    return -1
