"""What a kubelet is told on its command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeling.kubelet.imagegc import ImagePolicy
from kubeling.kubelet.thresholds import DEFAULT_HARD, Threshold, parse


@dataclass(frozen=True, slots=True)
class Config:
    """See `python -m kubeling.kubelet --help`. Directories are derived from `root_dir`, so that several kubelets share a machine."""

    node_name: str
    runtime_endpoint: str
    root_dir: Path
    #: One of each family, the main one first; none: found out.
    node_ips: tuple[str, ...] = ()
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    address: str = "0.0.0.0"
    port: int = 10250
    healthz_address: str = "127.0.0.1"
    healthz_port: int = 10248
    tls_cert_file: str = ""
    tls_key_file: str = ""
    client_ca_file: str = ""
    max_pods: int = 110
    node_labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[dict[str, Any], ...] = ()
    cgroup_root: str = ""
    status_frequency: float = 10.0
    resolv_conf: str = "/etc/resolv.conf"
    thresholds: tuple[Threshold, ...] = parse(DEFAULT_HARD, {}, {}, {})
    #: Seconds that a condition of pressure stays after it was seen last.
    pressure_transition: float = 300.0
    #: The longest grace period, in seconds, of a pod that a soft threshold evicts.
    eviction_max_grace: int = 0
    #: Seconds between two looks at the node's resources.
    housekeeping: float = 10.0
    image_policy: ImagePolicy = field(default_factory=ImagePolicy)
    #: Bytes after which a container's log is rotated, and how many files it may have, the one that is written to among them.
    log_max_size: int = 10 * 1024 * 1024
    log_max_files: int = 5
    #: What pods may not have: of the system's daemons, and of Kubernetes' own.
    system_reserved: dict[str, str] = field(default_factory=dict)
    kube_reserved: dict[str, str] = field(default_factory=dict)
    #: Whether the kernel keeps pods together to what is not reserved.
    enforce_allocatable: bool = True
    #: Seconds that pods have when the node goes down, and what of that is kept for critical ones; 0: SIGTERM ends the kubelet alone.
    shutdown_grace: float = 0.0
    shutdown_grace_critical: float = 0.0
    #: none, or static: whole cpus for containers of Guaranteed pods that ask for such.
    cpu_policy: str = "none"
    #: none, best-effort, restricted or single-numa-node: whether cpus and devices of a container must be near to each other.
    topology_policy: str = "none"
    #: `0-1,4`: never given to a container alone. Empty: as many as are reserved.
    reserved_cpus: str = ""
    #: Kernel settings that pods may ask for besides the safe ones: names, or beginnings of such with a `*`.
    unsafe_sysctls: tuple[str, ...] = ()
    #: The merged KubeletConfiguration of the files, for /configz.
    configuration: dict[str, Any] = field(default_factory=dict)
    #: The folder of manifests of static pods; None for none.
    static_pods: Path | None = None
    #: Whether volumes may be mounts of our own: tmpfs, and pinned folders for subPath.
    mount_volumes: bool = True

    @property
    def pods_dir(self) -> Path:
        """Volumes, termination messages and /etc/hosts, one folder per pod uid."""
        return self.root_dir / "pods"

    @property
    def logs_dir(self) -> Path:
        """Container logs: `<namespace>_<name>_<uid>/<container>/<restart>.log`."""
        return self.root_dir / "log" / "pods"
