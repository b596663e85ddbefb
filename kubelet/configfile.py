"""The kubelet's configuration from files: `--config`, and the `*.conf` files of `--config-dir` on top of it in the order of their names.

The files are KubeletConfigurations (kubelet.config.k8s.io/v1beta1) in YAML or JSON. A field becomes the default of the flag that means the same, so that flags
win over files. Fields that this kubelet has no use for are named in the log and otherwise left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from kubeling.api.times import format_duration
from kubeling.daemon.log import get_logger
from kubeling.kubelet.config import Config

log = get_logger("kubelet.config")

API_VERSION, KIND = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
_PLAIN = {
    "staticPodPath": "pod_manifest_path",
    "address": "address",
    "port": "port",
    "tlsCertFile": "tls_cert_file",
    "tlsPrivateKeyFile": "tls_private_key_file",
    "healthzPort": "healthz_port",
    "healthzBindAddress": "healthz_bind_address",
    "clusterDomain": "cluster_domain",
    "nodeStatusUpdateFrequency": "node_status_update_frequency",
    "imageMinimumGCAge": "minimum_image_ttl_duration",
    "imageMaximumGCAge": "maximum_image_ttl_duration",
    "imageGCHighThresholdPercent": "image_gc_high_threshold",
    "imageGCLowThresholdPercent": "image_gc_low_threshold",
    "cgroupRoot": "cgroup_root",
    "cpuManagerPolicy": "cpu_manager_policy",
    "topologyManagerPolicy": "topology_manager_policy",
    "reservedSystemCPUs": "reserved_cpus",
    "containerLogMaxSize": "container_log_max_size",
    "containerLogMaxFiles": "container_log_max_files",
    "maxPods": "max_pods",
    "resolvConf": "resolv_conf",
    "evictionPressureTransitionPeriod": "eviction_pressure_transition_period",
    "evictionMaxPodGracePeriod": "eviction_max_pod_grace_period",
    "containerRuntimeEndpoint": "container_runtime_endpoint",
    "shutdownGracePeriod": "shutdown_grace_period",
    "shutdownGracePeriodCriticalPods": "shutdown_grace_period_critical_pods",
}
_MAPS = {
    "evictionHard": ("eviction_hard", "<"),
    "evictionSoft": ("eviction_soft", "<"),
    "evictionSoftGracePeriod": ("eviction_soft_grace_period", "="),
    "evictionMinimumReclaim": ("eviction_minimum_reclaim", "="),
    "systemReserved": ("system_reserved", "="),
    "kubeReserved": ("kube_reserved", "="),
}


class ConfigProblem(Exception):
    """A configuration file that cannot be used; says which and why."""


def read(file: str, folder: str) -> dict[str, Any]:
    """The merged KubeletConfiguration. A folder that is not there holds no files. ConfigProblem where one makes no sense."""
    merged: dict[str, Any] = {}
    paths = [Path(file)] if file else []
    if folder and Path(folder).is_dir():
        paths += sorted(each for each in Path(folder).iterdir() if each.suffix == ".conf")
    for path in paths:
        _merge(merged, _one(path))
    return merged


def _one(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text()
        found = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigProblem(f"{path}: {error}") from error
    if not isinstance(found, dict) or (found.get("apiVersion"), found.get("kind")) != (API_VERSION, KIND):
        raise ConfigProblem(f"{path} is not a {KIND} of {API_VERSION}")
    return {key: value for key, value in found.items() if key not in ("apiVersion", "kind")}


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Maps are merged, everything else is replaced."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def defaults(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of flags (by their argparse names, as text) that the configuration stands for."""
    found: dict[str, Any] = {}
    for key, value in configuration.items():
        if key in _PLAIN:
            found[_PLAIN[key]] = str(value)
        elif key in _MAPS:
            name, separator = _MAPS[key]
            found[name] = ",".join(f"{signal}{separator}{amount}" for signal, amount in (value or {}).items())
        elif key == "enforceNodeAllocatable":
            found["enforce_node_allocatable"] = ",".join(value or ())
        elif key == "allowedUnsafeSysctls":
            found["allowed_unsafe_sysctls"] = ",".join(value or ())
        elif key == "clusterDNS":
            found["cluster_dns"] = ",".join(value or ())
        elif key == "registerWithTaints":
            found["register_with_taints"] = ",".join(
                f"{each['key']}{'=' + each['value'] if each.get('value') else ''}:{each['effect']}" for each in value or ()
            )
        elif key == "authentication":
            x509 = ((value or {}).get("x509") or {}).get("clientCAFile")
            if x509:
                found["client_ca_file"] = x509
        else:
            log.warning("a field of the configuration is of no use to this kubelet", field=key)
    return found


def configz(config: Config) -> dict[str, Any]:
    """The configuration as it is in force: the files', with what the flags have made of it."""
    hard = {each.signal: each.below.text for each in config.thresholds if not each.grace}
    soft = {each.signal: each.below.text for each in config.thresholds if each.grace}

    def duration(seconds: float) -> str:
        return format_duration(timedelta(seconds=seconds))

    return {
        **config.configuration,
        "address": config.address,
        "port": config.port,
        "healthzBindAddress": config.healthz_address,
        "healthzPort": config.healthz_port,
        "clusterDomain": config.cluster_domain,
        "clusterDNS": list(config.cluster_dns),
        "containerRuntimeEndpoint": config.runtime_endpoint,
        "maxPods": config.max_pods,
        "containerLogMaxSize": str(config.log_max_size),
        "containerLogMaxFiles": config.log_max_files,
        "allowedUnsafeSysctls": list(config.unsafe_sysctls),
        "staticPodPath": str(config.static_pods or ""),
        "cgroupRoot": config.cgroup_root,
        "cpuManagerPolicy": config.cpu_policy,
        "topologyManagerPolicy": config.topology_policy,
        "reservedSystemCPUs": config.reserved_cpus,
        "nodeStatusUpdateFrequency": duration(config.status_frequency),
        "evictionHard": hard,
        "evictionSoft": soft,
        "evictionSoftGracePeriod": {each.signal: duration(each.grace) for each in config.thresholds if each.grace},
        "evictionPressureTransitionPeriod": duration(config.pressure_transition),
        "evictionMaxPodGracePeriod": config.eviction_max_grace,
        "imageGCHighThresholdPercent": config.image_policy.high,
        "imageGCLowThresholdPercent": config.image_policy.low,
        "imageMinimumGCAge": duration(config.image_policy.minimum_age),
        "imageMaximumGCAge": duration(config.image_policy.maximum_age),
        "systemReserved": config.system_reserved,
        "kubeReserved": config.kube_reserved,
        "enforceNodeAllocatable": ["pods"] if config.enforce_allocatable else [],
        "shutdownGracePeriod": duration(config.shutdown_grace),
        "shutdownGracePeriodCriticalPods": duration(config.shutdown_grace_critical),
    }
