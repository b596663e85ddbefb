"""The engine of a cluster of one: the log on this disk is the quorum.

One batch is on its way at a time: it is written and fsynced in a thread while the loop goes on and the next batch gathers; then it is applied. A
small batch on a disk that has been quick lately is written in place: handing it to a thread and back would cost a lone client a third of its waiting.
No timers, no heartbeats: an idle member does nothing at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.errors import NO_SPACE, STOPPED
from kubeling.etcdlite.journal import Entry, Journal, NoSpace
from kubeling.etcdlite.proposer import Proposer

log = get_logger("etcdlite.solo")


class Solo:
    """`fatal` is called with what broke the disk: the daemon has to end, since nothing can be promised any more."""

    window = 1
    alone = True

    def __init__(
        self,
        journal: Journal,
        disk: ThreadPoolExecutor,
        proposer: Proposer,
        member_id: int,
        applied: tuple[int, int],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._journal = journal
        self._disk = disk
        self._proposer = proposer
        self._fatal = fatal
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self.leader_id = member_id
        self.leader_changes = 1
        #: `applied` is the index and term of the newest entry that is in the state already.
        self.applied_index, self.applied_term = applied
        self.last_index = self.applied_index
        # Every start is a new term, so that what clients see as raft_term grows as it does in a larger cluster.
        self.term = journal.term + 1
        journal.set_vote(self.term, 0)

    def propose(self, number: int, data: bytes) -> None:
        """Write `data` as the next entry."""
        if self._stopped:
            self._proposer.failed(number, STOPPED)
            return
        entry = Entry(self.applied_index + 1, self.term, data)
        self._journal.add_entry(entry.index, entry.term, entry.data)
        batch = self._journal.take()
        if self._journal.quick(len(data)):
            try:
                self._journal.write(batch)
            except (OSError, NoSpace) as error:
                self._written(number, entry, error)
            else:
                self._written(number, entry, None)
            return
        writing = self._loop.run_in_executor(self._disk, self._journal.write, batch)
        writing.add_done_callback(
            lambda done: self._written(number, entry, asyncio.CancelledError() if done.cancelled() else done.exception())
        )

    def forget(self, number: int) -> None:
        """There is nothing to take back: what is on its way gets there."""

    def compacted(self, index: int) -> None:
        """No entries are kept in memory."""

    async def stop(self) -> None:
        """Take no more proposals."""
        self._stopped = True
        self._proposer.fail_all(STOPPED)

    def _written(self, number: int, entry: Entry, error: BaseException | None) -> None:
        if error is None:
            self.applied_index = self.last_index = entry.index
            self.applied_term = entry.term
            self._proposer.applied(entry)
        elif isinstance(error, NoSpace):
            log.error("the disk is full, a batch was refused", error=str(error))
            self._proposer.failed(number, NO_SPACE)
        else:
            self._proposer.failed(number, STOPPED)
            self._fatal(error)
