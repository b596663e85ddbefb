"""The figures of one member, under etcd's own names, as Prometheus text."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping

from kubeling.etcdlite.maintenance import VERSION
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.rpc import CODES
from kubeling.etcdlite.transport.tally import Tally

Figure = tuple[str, str, float]

_STARTED = time.time()


def render(member: Member, tallies: Mapping[str, Tally]) -> str:
    """The text of ``/metrics``; `tallies` has what the client port counts, by path."""
    lines: list[str] = []
    for name, kind, value in (*_server(member), *_store(member, tallies), *_process()):
        lines += (f"# TYPE {name} {kind}", f"{name} {value:.9g}" if isinstance(value, float) else f"{name} {value}")
    lines += _labelled(member)
    lines += _calls(tallies)
    lines += member.fsync_seconds.lines("etcd_disk_wal_fsync_duration_seconds")
    lines += member.write_seconds.lines("etcd_disk_backend_commit_duration_seconds")
    lines += member.snapshot_seconds.lines("etcd_disk_backend_snapshot_duration_seconds")
    return "\n".join(lines) + "\n"


def _server(member: Member) -> list[Figure]:
    engine, counts, core = member.engine, member.proposer.counts, member.engine.core
    peers = [one for one in core.configuration.members if one != member.id]
    connected = len(member.cluster.transport.links)
    return [
        ("etcd_server_has_leader", "gauge", int(bool(engine.leader_id))),
        ("etcd_server_is_leader", "gauge", int(engine.leader_id == member.id)),
        ("etcd_server_is_learner", "gauge", int(core.is_learner)),
        ("etcd_server_leader_changes_seen_total", "counter", engine.leader_changes),
        ("etcd_server_proposals_committed_total", "gauge", core.commit),
        ("etcd_server_proposals_applied_total", "gauge", engine.applied_index),
        ("etcd_server_proposals_pending", "gauge", member.proposer.waiting),
        ("etcd_server_proposals_failed_total", "counter", counts.failed),
        ("etcd_server_slow_apply_total", "counter", engine.slow_applies),
        ("etcd_server_read_indexes_failed_total", "counter", engine.barriers.failed),
        ("etcd_server_quota_backend_bytes", "gauge", member.config.quota_bytes),
        ("etcd_network_active_peers", "gauge", connected),
        ("etcd_network_disconnected_peers", "gauge", max(0, len(peers) - connected)),
        ("etcd_debugging_server_lease_expired_total", "counter", counts.leases_expired),
        ("etcdlite_operations_total", "counter", counts.operations),
        ("etcdlite_batches_total", "counter", counts.batches),
        ("etcdlite_disk_full", "gauge", int(engine.disk_full)),
        ("etcdlite_log_bytes", "gauge", member.journal.bytes_on_disk),
        ("etcd_disk_wal_write_bytes_total", "gauge", member.journal.bytes_written),
    ]


def _store(member: Member, tallies: Mapping[str, Tally]) -> list[Figure]:
    store = member.state.store
    done = {method: tallies[f"/etcdserverpb.{method}"].ok for method in ("KV/Put", "KV/DeleteRange", "KV/Range", "KV/Txn")}
    leases = {method: tallies[f"/etcdserverpb.Lease/{method}"] for method in ("LeaseGrant", "LeaseRevoke", "LeaseKeepAlive")}
    return [
        ("etcd_mvcc_db_total_size_in_bytes", "gauge", store.size),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", store.size),
        ("etcd_mvcc_put_total", "counter", done["KV/Put"]),
        ("etcd_mvcc_delete_total", "counter", done["KV/DeleteRange"]),
        ("etcd_mvcc_range_total", "counter", done["KV/Range"]),
        ("etcd_mvcc_txn_total", "counter", done["KV/Txn"]),
        ("etcd_debugging_mvcc_keys_total", "gauge", len(store)),
        ("etcd_debugging_mvcc_current_revision", "gauge", store.revision),
        ("etcd_debugging_mvcc_compact_revision", "gauge", store.compact_revision),
        ("etcd_debugging_mvcc_watch_stream_total", "gauge", len(member.hub.streams)),
        ("etcd_debugging_mvcc_watcher_total", "gauge", member.hub.watcher_count),
        ("etcd_debugging_lease_granted_total", "counter", leases["LeaseGrant"].ok),
        ("etcd_debugging_lease_revoked_total", "counter", leases["LeaseRevoke"].ok),
        ("etcd_debugging_lease_renewed_total", "counter", leases["LeaseKeepAlive"].sent),
        ("etcd_debugging_auth_revision", "gauge", member.state.auth.revision),
    ]


def _process() -> list[Figure]:
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return [
        ("process_resident_memory_bytes", "gauge", resident),
        ("process_cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime),
        ("process_open_fds", "gauge", len(os.listdir("/proc/self/fd"))),
        ("process_max_fds", "gauge", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        ("process_start_time_seconds", "gauge", _STARTED),
    ]


def _labelled(member: Member) -> Iterator[str]:
    yield "# TYPE etcd_server_version gauge"
    yield f'etcd_server_version{{server_version="{VERSION}"}} 1'
    yield "# TYPE etcd_cluster_version gauge"
    yield f'etcd_cluster_version{{cluster_version="{VERSION.rpartition(".")[0]}"}} 1'
    yield "# TYPE etcd_server_id gauge"
    yield f'etcd_server_id{{server_id="{member.id:x}"}} 1'
    transport = member.cluster.transport
    for name, label, counts in (("sent", "To", transport.sent), ("received", "From", transport.received)):
        yield f"# TYPE etcd_network_peer_{name}_bytes_total counter"
        for peer, count in sorted(counts.items()):
            yield f'etcd_network_peer_{name}_bytes_total{{{label}="{peer:x}"}} {count}'


def _calls(tallies: Mapping[str, Tally]) -> Iterator[str]:
    """What go-grpc-prometheus counts."""
    for name in ("started", "msg_received", "msg_sent"):
        yield f"# TYPE grpc_server_{name}_total counter"
        for path, tally in tallies.items():
            count = tally.started if name == "started" else tally.received if name == "msg_received" else tally.sent
            yield f"grpc_server_{name}_total{{{_labels(path, tally)}}} {count}"
    yield "# TYPE grpc_server_handled_total counter"
    for path, tally in tallies.items():
        for code, count in (("OK", tally.ok), *tally.ended.items()):
            if count:
                yield f'grpc_server_handled_total{{grpc_code="{_GO_NAMES.get(code, code)}",{_labels(path, tally)}}} {count}'


def _labels(path: str, tally: Tally) -> str:
    service, _, method = path[1:].partition("/")
    return f'grpc_method="{method}",grpc_service="{service}",grpc_type="{tally.kind}"'


#: What Go calls the codes.
_GO_NAMES = {code: "".join(word.capitalize() for word in code.split("_")) for code in CODES} | {
    "OK": "OK",
    "CANCELLED": "Canceled",
}
