"""The controllers by name: where each is, and whether it runs unless asked for. Adding one is one line."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Iterable

from kubeling.controllers.context import Context

Run = Callable[[], Awaitable[None]]

#: Name, as --controllers takes it → "module:function"; the function builds the controller and returns its run.
CONTROLLERS: dict[str, str] = {
    "deployment": "deployment:deployment",
    "replicaset": "replicaset:replicaset",
    "daemonset": "daemonset:daemonset",
    "statefulset": "statefulset:statefulset",
    "cronjob": "cronjob:cronjob",
    "disruption": "disruption:disruption",
    "endpointslicemirroring": "endpointslice_mirroring:endpointslicemirroring",
    "job": "job:job",
    "horizontalpodautoscaler": "hpa:horizontalpodautoscaler",
    "ttl-after-finished": "job:ttl_after_finished",
    "replicationcontroller": "replicaset:replicationcontroller",
    "endpoints": "endpoints:endpoints",
    "endpointslice": "endpointslice:endpointslice",
    "kubernetes-service": "kubernetes_service:kubernetesservice",
    "nodelifecycle": "node_lifecycle:nodelifecycle",
    "tainteviction": "taint_eviction:tainteviction",
    "nodeipam": "node_ipam:nodeipam",
    "podgc": "podgc:podgc",
    "serviceaccount": "serviceaccount:serviceaccount",
    "serviceaccount-token": "serviceaccount_token:serviceaccounttoken",
    "legacy-service-account-token-cleaner": "legacy_tokens:legacytokens",
    "root-ca-certificate-publisher": "root_ca:rootca",
    "clusterrole-aggregation": "clusterrole_aggregation:clusterroleaggregation",
    "csrsigning": "certificates:signing",
    "csrapproving": "certificates:approving",
    "csrcleaning": "certificates:cleaning",
    "bootstrapsigner": "bootstrap_tokens:signer",
    "tokencleaner": "bootstrap_tokens:cleaner",
    "ttl": "node_ttl:ttl",
    "namespace": "namespace:namespace",
    "resourcequota": "resource_quota:resourcequota",
    "validatingadmissionpolicy-status": "policy_status:policystatus",
    "pvc-protection": "storage_protection:pvcprotection",
    "pv-protection": "storage_protection:pvprotection",
    "persistentvolume-binder": "volume_binder:persistentvolumebinder",
    "local-volume-provisioner": "local_provisioner:localvolumeprovisioner",
    "attachdetach": "attach_detach:attachdetach",
    "volume-expand": "volume_expand:volumeexpand",
    "ephemeral-volume": "ephemeral_volume:ephemeralvolume",
    "garbagecollector": "gc:garbagecollector",
    "storage-version-gc": "storage_version_gc:storageversiongc",
    "storage-version-migrator": "storage_migration:storageversionmigrator",
}


def chosen(patterns: Iterable[str]) -> list[str]:
    """The names that ``--controllers=*,-x`` means: `*` all, `x` that one, `-x` not that one. ValueError for an unknown name."""
    wanted = [each.strip() for each in patterns if each.strip()]
    unknown = [each for each in wanted if each != "*" and each.lstrip("-") not in CONTROLLERS]
    if unknown:
        raise ValueError(f"no controller is called {', '.join(unknown)}; there are: {', '.join(CONTROLLERS)}")
    return [name for name in CONTROLLERS if f"-{name}" not in wanted and ("*" in wanted or name in wanted)]


def build(name: str, ctx: Context) -> Run:
    """Import the controller's module and build it; its informers are registered, nothing runs yet."""
    module, _, function = CONTROLLERS[name].partition(":")
    run: Run = getattr(importlib.import_module(f"kubeling.controllers.{module}"), function)(ctx)
    return run
