"""What a kubelet is told on its command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Config:
    """See `python -m kubeling.kubelet --help`. Directories are derived from `root_dir`, so that several kubelets share a machine."""

    node_name: str
    runtime_endpoint: str
    root_dir: Path
    node_ip: str = ""
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
