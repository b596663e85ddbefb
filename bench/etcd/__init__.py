"""The store beside real etcd: one client, one machine, one disk, one run.

``python -m kubeling.bench etcd``. Both stores run at once and are measured in turns, point by point, so that whatever else the machine does
hits both alike; a store that is not being measured is idle. Each module holds one thing: :mod:`.h2` the client, :mod:`.calls` its requests,
:mod:`.servers` the stores, :mod:`.throughput`, :mod:`.watches`, :mod:`.volume` and :mod:`.faults` what is measured, :mod:`.results` the table.
"""
