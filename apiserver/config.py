"""What the apiserver is told by its flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from kubeling.api.resources import Resource
from kubeling.apiserver.authoptions import AuthOptions

Network = IPv4Network | IPv6Network
DEFAULT_RANGE = ip_network("10.96.0.0/16")


@dataclass(frozen=True, slots=True)
class Config:
    """Paths are of PEM files unless said otherwise; empty strings stand for flags not given."""

    etcd_servers: tuple[str, ...]
    etcd_cafile: str = ""
    etcd_certfile: str = ""
    etcd_keyfile: str = ""
    bind_address: str = "127.0.0.1"
    secure_port: int = 6443
    advertise_address: str = ""
    #: Inherited listening sockets to serve on besides the own one.
    listen_fds: tuple[int, ...] = ()
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    auth: AuthOptions = field(default_factory=AuthOptions)
    service_account_key_files: tuple[str, ...] = ()
    service_account_signing_key_file: str = ""
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    api_audiences: tuple[str, ...] = ()
    #: One of each family, the primary one first.
    service_cluster_ip_ranges: tuple[Network, ...] = (DEFAULT_RANGE,)
    node_port_range: tuple[int, int] = (30000, 32767)
    kubelet_client_certificate: str = ""
    kubelet_client_key: str = ""
    kubelet_certificate_authority: str = ""
    #: Requests that are worked on at a time: these two together are the seats that priority levels share. Python works on one thing at a time: more seats would
    #: only let the greedy make everybody wait, and fewer would leave the processor idle while the store writes.
    max_requests_inflight: int = 100
    max_mutating_requests_inflight: int = 50
    priority_and_fairness: bool = True
    #: How long a request that is no stream may take, in seconds.
    request_timeout: float = 60.0
    #: What this server shows to those behind it as their front proxy.
    proxy_client_cert_file: str = ""
    proxy_client_key_file: str = ""
    encryption_provider_config: str = ""
    audit_policy_file: str = ""
    #: `-` is the standard output.
    audit_log_path: str = ""
    #: In MB, days, and files; 0 is without bound.
    audit_log_maxsize: int = 100
    audit_log_maxage: int = 0
    audit_log_maxbackup: int = 0
    admission_control_config_file: str = ""
    enable_admission_plugins: tuple[str, ...] = ()
    disable_admission_plugins: tuple[str, ...] = ()
    #: Kinds that are served besides those that always are.
    more_kinds: tuple[Resource, ...] = ()
    #: How long requests under way may take to finish once the server is told to stop.
    shutdown_seconds: float = 10.0
    #: How often old revisions are compacted away; 0 never.
    compaction_seconds: float = 300.0
