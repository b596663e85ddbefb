"""``python -m tests.robustness.broken WAY FLAGS…``: etcdlite with one promise broken on purpose, so that the suite can be seen to find it."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from typing import Any


def no_fsync() -> None:
    """Nothing is put on disk before it is acknowledged."""
    os.fsync = os.fdatasync = lambda fd: None


def stale_reads() -> None:
    """Each member answers reads from what it has, without asking whether that is all."""
    from kubeling.etcdlite import kv_service
    from kubeling.proto import etcd_pb2 as pb

    honest = kv_service._KV.range

    def read(self: Any, raw: bytes, context: Any) -> Any:
        return honest(self, raw + pb.RangeRequest(serializable=True).SerializeToString(), context)

    kv_service._KV.range = read  # type: ignore[method-assign]


def lost_events() -> None:
    """Of a hundred times that watchers are told something, one is forgotten."""
    from kubeling.etcdlite.watch import Hub

    honest, count = Hub._tell, itertools.count(1)

    def tell(self: Any, group: Any, hits: Any, header: bytes) -> None:
        if next(count) % 100:
            honest(self, group, hits, header)

    Hub._tell = tell  # type: ignore[method-assign]


WAYS: dict[str, Callable[[], None]] = {"fsync": no_fsync, "reads": stale_reads, "events": lost_events}

if __name__ == "__main__":
    way = sys.argv.pop(1)
    WAYS[way]()
    from kubeling.etcdlite.__main__ import main

    sys.exit(main())
