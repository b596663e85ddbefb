"""The figures of one member, under etcd's own names, as Prometheus text."""

from __future__ import annotations

from kubeling.etcdlite.member import Member


def render(member: Member) -> str:
    """The text of ``/metrics``."""
    engine, store, counts = member.engine, member.state.store, member.proposer.counts
    figures: list[tuple[str, str, float]] = [
        ("etcd_server_has_leader", "gauge", int(bool(engine.leader_id))),
        ("etcd_server_is_leader", "gauge", int(engine.leader_id == member.id)),
        ("etcd_server_leader_changes_seen_total", "counter", engine.leader_changes),
        ("etcd_server_proposals_committed_total", "gauge", engine.applied_index),
        ("etcd_server_proposals_applied_total", "gauge", engine.applied_index),
        ("etcd_server_proposals_pending", "gauge", member.proposer.waiting),
        ("etcd_server_proposals_failed_total", "counter", counts.failed),
        ("etcd_server_quota_backend_bytes", "gauge", member.config.quota_bytes),
        ("etcd_mvcc_db_total_size_in_bytes", "gauge", store.size),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", store.size),
        ("etcd_debugging_mvcc_keys_total", "gauge", len(store)),
        ("etcd_debugging_mvcc_current_revision", "gauge", store.revision),
        ("etcd_debugging_mvcc_compact_revision", "gauge", store.compact_revision),
        ("etcd_debugging_mvcc_watch_stream_total", "gauge", len(member.hub.streams)),
        ("etcd_debugging_mvcc_watcher_total", "gauge", member.hub.watcher_count),
        ("etcd_debugging_server_lease_expired_total", "counter", counts.leases_expired),
        ("etcdlite_operations_total", "counter", counts.operations),
        ("etcdlite_batches_total", "counter", counts.batches),
        ("etcdlite_log_bytes", "gauge", member.journal.bytes_on_disk),
    ]
    lines: list[str] = []
    for name, kind, value in figures:
        lines += (f"# TYPE {name} {kind}", f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    lines += member.fsync_seconds.lines("etcd_disk_wal_fsync_duration_seconds")
    return "\n".join(lines) + "\n"
