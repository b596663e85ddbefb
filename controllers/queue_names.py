"""What upstream's dashboards and alerts call the work queues of our controllers. Those that upstream does not have keep their names."""

from __future__ import annotations

#: The controller's name → the label `name` of its queue's metrics.
QUEUE_NAMES = {
    "bootstrap-signer-controller": "bootstrap_signer_queue",
    "certificatesigningrequest-approving-controller": "certificate",
    "clusterrole-aggregation-controller": "ClusterRoleAggregator",
    "cronjob-controller": "cronjob",
    "daemonset-controller": "daemonset",
    "deployment-controller": "deployment",
    "disruption-controller": "disruption",
    "endpoint-controller": "endpoint",
    "endpoint-slice-controller": "endpoint_slice",
    "endpoint-slice-mirroring-controller": "endpoint_slice_mirroring",
    "ephemeral-volume-controller": "ephemeral_volume",
    "garbage-collector": "garbage_collector_attempt_to_delete",
    "job-controller": "job",
    "job-orphans": "job_orphan_pod",
    "namespace-controller": "namespace",
    "node-lifecycle-controller": "node_lifecycle_controller",
    "pod-garbage-collector": "orphaned_pods_nodes",
    "pv-protection-controller": "pvprotection",
    "pvc-protection-controller": "pvcprotection",
    "replicaset-controller": "replicaset",
    "replication-controller": "replicationmanager",
    "resourcequota-controller": "resourcequota_primary",
    "root-ca-certificate-publisher": "root_ca_cert_publisher",
    "service-account-controller": "serviceaccount",
    "serviceaccount-token-controller": "serviceaccount_tokens_secret",
    "statefulset-controller": "statefulset",
    "storage-version-migrator-controller": "storage_version_migrator_controller",
    "taint-eviction-controller": "noexec_taint_node",
    "token-cleaner-controller": "token_cleaner",
    "ttl-after-finished-controller": "ttl_jobs_to_delete",
    "ttl-controller": "ttlcontroller",
    "validatingadmissionpolicy-status-controller": "validatingadmissionpolicy-status",
}
