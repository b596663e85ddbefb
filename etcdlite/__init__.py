"""The store daemon: etcd's v3 gRPC API over a durable, replicated, multi-version map of bytes to bytes.

How a request travels: a gRPC service (:mod:`.kv_service` and its sisters) checks it and hands it to the proposer (:mod:`.proposer`), which
gathers what arrives while the disk is busy into one log entry; the engine (:mod:`.engine`, which drives :mod:`.consensus`) makes the entry
durable; the state machine (:mod:`.state`) applies it to the pure MVCC store (:mod:`.mvcc`) and the leases (:mod:`.lease`); the waiting
requests are answered and the watch hub (:mod:`.watch`) tells who asked to know. ``docs/etcdlite.md`` has the on-disk format.
"""
