"""Compaction by itself, as ``--auto-compaction-mode`` and ``--auto-compaction-retention`` ask for it. Only the leader does it.

``periodic``: everything older than the retention goes. The revision is noted ten times in a retention (at most hourly retentions are looked at every six
minutes), and each time the one noted a retention ago is compacted. ``revision``: every five minutes all but the newest so many revisions go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.errors import EtcdError
from kubeling.etcdlite.ops import Kind
from kubeling.proto import etcd_pb2 as pb

if TYPE_CHECKING:
    from kubeling.etcdlite.member import Member

log = get_logger("etcdlite.compaction")

_STEPS = 10
_LONGEST_STEP_SECONDS = 360.0
_REVISION_SECONDS = 300.0


async def run(member: Member) -> None:
    """Compact until cancelled; returns at once where nobody asked for it."""
    mode, retention = member.config.auto_compaction
    if not retention:
        return
    step = min(retention / _STEPS, _LONGEST_STEP_SECONDS) if mode == "periodic" else _REVISION_SECONDS
    noted: deque[int] = deque()
    while True:
        await asyncio.sleep(step)
        current = member.state.store.revision
        if mode == "revision":
            await _compact(member, current - int(retention))
            continue
        noted.append(current)
        if len(noted) * step > retention:
            await _compact(member, noted.popleft())


async def _compact(member: Member, revision: int) -> None:
    if member.engine.leader_id != member.id or revision <= max(1, member.state.store.compact_revision):
        return
    request = pb.CompactionRequest(revision=revision)
    answer = await member.proposer.submit(Kind.COMPACT, request.SerializeToString(), request)
    if isinstance(answer, EtcdError):
        log.warning("not compacted, tried again later", revision=revision, error=answer.text)
    else:
        log.info("compacted", revision=revision)
