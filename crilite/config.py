"""What the daemon is told at its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kubeling.crilite.endpoints import Registries

DEFAULT_ADDRESS = "unix:///run/kubeling/crilite.sock"


@dataclass(frozen=True, slots=True)
class Config:
    listen: str = DEFAULT_ADDRESS
    #: Images, writable layers and records: survives a reboot.
    root: Path = Path("/var/lib/kubeling/crilite")
    #: Namespaces, pipes and sockets: may be emptied by a reboot.
    state: Path = Path("/run/kubeling/crilite")
    #: All cgroups are made below this one.
    cgroup_root: str = "/kubeling"
    handlers: tuple[str, ...] = ("native", "process")
    default_handler: str = "native"
    stream_address: str = "127.0.0.1"
    stream_port: int = 0
    #: Where pods that are plain processes get their addresses from.
    pod_address_range: str = "127.64.0.0/16"
    #: For use without a kubelet; a kubelet sends the node's pod CIDR by UpdateRuntimeConfig.
    pod_cidr: str = ""
    #: Where CNI configurations are: then pods are connected by CNI plugins.
    cni_conf_dir: Path | None = None
    cni_bin_dirs: tuple[Path, ...] = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
    #: Paths of the node that `kubeling.local/host` shows as empty.
    hide: tuple[str, ...] = ()
    #: The most processes and threads of one container, 0 for no limit.
    pids_limit: int = 4096
    #: Which images must be signed: see `policy`.
    image_policy: Path | None = None
    registries: Registries = field(default_factory=Registries)
