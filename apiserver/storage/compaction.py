"""Old revisions are compacted away every few minutes, by one of the apiservers.

They agree through one key: whoever finds there what it left the last time compacts, up to the revision that was current then, and writes the present
one. The others see that somebody was there and wait for the next turn. So history reaches back at least one interval, and nobody leads.
"""

from __future__ import annotations

from kubeling.apiserver.storage.errors import StoreError
from kubeling.apiserver.storage.kv import KV, Write
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("compaction")

KEY = "compact_rev_key"


async def run(kv: KV, clock: Clock, interval: float) -> None:
    """Compact for ever; an `interval` of 0 never does."""
    if interval <= 0:
        return
    version, revision = 0, 0
    while True:
        try:
            version, revision = await once(kv, version, revision)
        except StoreError as error:
            log.warning("compaction has to wait", error=str(error))
        await clock.sleep(interval)


async def once(kv: KV, seen: int, revision: int) -> tuple[int, int]:
    """One turn. `seen` is the key's mod revision after our last turn, `revision` the store's then. Returns both for the next turn."""
    commit = await kv.commit([Write(KEY, b"%d" % revision, seen)])
    if commit.done:
        if revision:
            await kv.compact(revision)
            log.debug("compacted", revision=revision)
        return commit.revision, commit.revision
    found = commit.current[0]
    return (found.revision if found else 0), commit.revision
