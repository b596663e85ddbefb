"""Raft as plain logic: messages, time and word from the disk go in; what to write, send and apply comes out.

Nothing here knows a socket, a clock, a file or a thread, so the same code runs under a simulated network, clock and disk (``tests/etcdlite/simulation``).
The caller owns one :class:`~.core.Core` and has these duties, in this order:

1. **Start** it with what the disk holds: term and vote, the newest snapshot's index, term and configuration, and the entries behind it.
2. **Feed** it: :meth:`~.core.Core.step` for each message that came, :meth:`~.core.Core.tick` once :meth:`~.core.Core.next_deadline` has come (feed the
   messages that are there first: after a pause they may say that the leader lives), and the calls for proposals, reads, changes and snapshots.
3. **Take** the outcome, :meth:`~.core.Core.take`, whenever :attr:`~.core.Core.has_output`. Of one output, in this order:

   a. ``install``: make the state that of this snapshot, durably, before anything else of this output is applied or written;
   b. ``hard_state`` and ``entries``: begin to write them, behind what earlier outputs had to write; an entry replaces whatever had its index or a higher one;
   c. ``messages``: send them at once. What may not leave before something is on disk is still held inside, and comes with a later output;
   d. ``committed``: apply them, each once, in order; ``reads`` are good once ``index`` is applied;
   e. ``snapshots_for``: ship the newest snapshot to these members, and say how it went.

4. **Say** :meth:`~.core.Core.persisted` with the output's ``sequence`` when everything that it and its predecessors had to write is on stable storage. Outputs may be
   taken while an earlier one is being written; several may be made durable with one fsync. A write that failed is never reported; after a failed fsync the
   process has to end.
5. Make **snapshots** of the applied state when it likes, with :meth:`~.core.Core.configuration_at`, and tell :meth:`~.core.Core.compact` when one is durable.

Messages may be lost, doubled, delayed and reordered at will. What must not happen is that a message is changed or that one is delivered to a member of another cluster.
"""
