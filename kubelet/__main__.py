"""`python -m kubeling.kubelet`: flags to configuration."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubeling.daemon import main as daemon
from kubeling.kubelet.config import Config
from kubeling.kubelet.thresholds import DEFAULT_HARD
from kubeling.kubelet.topology import POLICIES


def _pairs(text: str) -> dict[str, str]:
    found = {}
    for each in filter(None, text.split(",")):
        key, separator, value = each.partition("=")
        if not separator:
            raise argparse.ArgumentTypeError(f"{each!r} is not key=value")
        found[key.strip()] = value.strip()
    return found


def _taints(text: str) -> tuple[dict[str, Any], ...]:
    found = []
    for each in filter(None, text.split(",")):
        key, separator, effect = each.rpartition(":")
        if not separator or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            raise argparse.ArgumentTypeError(f"{each!r} is not key[=value]:NoSchedule|PreferNoSchedule|NoExecute")
        name, _, value = key.partition("=")
        found.append({"key": name, "effect": effect, **({"value": value} if value else {})})
    return tuple(found)


def _signals(text: str) -> dict[str, str]:
    found = {}
    for each in filter(None, text.split(",")):
        signal, separator, value = each.partition("<")
        if not separator:
            raise argparse.ArgumentTypeError(f"{each!r} is not signal<quantity")
        found[signal.strip()] = value.strip()
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _addresses(text: str) -> tuple[str, ...]:
    found = [ipaddress.ip_address(each) for each in _words(text)]
    if len({each.version for each in found}) != len(found):
        raise argparse.ArgumentTypeError(f"{text!r}: one address of each family at most, such as 172.30.0.21,fd00:172:30::15")
    return tuple(str(each) for each in found)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags, named as upstream's; what they do not say may be in the files of --config and --config-dir."""
    parser = _parser()
    args = parser.parse_args(argv)
    args.configuration = {}
    if args.config or args.config_dir:
        from kubeling.kubelet import configfile

        try:
            configuration = configfile.read(args.config, args.config_dir)
            parser.set_defaults(**configfile.defaults(configuration))
        except (configfile.ConfigProblem, AttributeError, KeyError, TypeError) as error:
            parser.error(f"the configuration cannot be used: {error}")
        args = parser.parse_args(argv)
        args.configuration = configuration
    return args


def _parser() -> argparse.ArgumentParser:
    parser = daemon.parser("kubelet", "The node agent: runs the pods that the API assigns to this node.")
    parser.add_argument("--kubeconfig", required=True, help="how to reach the apiserver, and who we are")
    parser.add_argument("--container-runtime-endpoint", default="unix:///run/kubeling/crilite.sock", help="the CRI socket")
    parser.add_argument("--hostname-override", default="", help="the node's name; the host's name where absent")
    parser.add_argument(
        "--node-ip",
        type=_addresses,
        default=(),
        metavar="IP[,IP]",
        help="the node's addresses, one of each family, the main one first; that of the default route where absent",
    )
    parser.add_argument("--root-dir", default="/var/lib/kubeling/kubelet", help="volumes, logs and other files of pods")
    parser.add_argument("--cluster-dns", type=_words, default=(), help="addresses of the cluster's DNS servers")
    parser.add_argument("--cluster-domain", default="cluster.local")
    parser.add_argument("--address", default="0.0.0.0", help="where the kubelet's API listens")
    parser.add_argument("--port", type=int, default=10250, help="of the kubelet's API; 0 for none")
    parser.add_argument("--healthz-bind-address", default="127.0.0.1")
    parser.add_argument("--healthz-port", type=int, default=10248, help="0 for none")
    parser.add_argument("--tls-cert-file", default="")
    parser.add_argument("--tls-private-key-file", default="")
    parser.add_argument("--client-ca-file", default="", help="who may use the API: bearers of certificates signed by this CA")
    parser.add_argument("--max-pods", type=int, default=110)
    parser.add_argument("--node-labels", type=_pairs, default={}, help="key=value,…")
    parser.add_argument("--register-with-taints", type=_taints, default=(), help="key=value:effect,…")
    parser.add_argument("--cgroup-root", default="", help="the cgroup under which kubepods is made")
    parser.add_argument("--node-status-update-frequency", default="10s", help="how often the node is looked at")
    parser.add_argument(
        "--mount-volumes",
        type=daemon.boolean,
        default=True,
        help="false where the node shares its host's mounts and must leave none: volumes in memory are then folders on disk",
    )
    parser.add_argument(
        "--pod-manifest-path", default="", help="a folder of manifests of static pods, which run without the API too"
    )
    parser.add_argument("--resolv-conf", default="/etc/resolv.conf")
    parser.add_argument(
        "--allowed-unsafe-sysctls",
        type=_words,
        default=(),
        help="kernel settings that pods may set besides the safe ones; net.core.*,…",
    )
    parser.add_argument("--config", default="", help="a KubeletConfiguration; flags win over it")
    parser.add_argument("--config-dir", default="", help="a folder of *.conf files that are merged into it")
    _add_resources(parser)
    return parser


def _add_resources(parser: argparse.ArgumentParser) -> None:
    """The flags about what the node has, keeps and gives back."""
    add = parser.add_argument
    hard = ",".join(f"{signal}<{value}" for signal, value in DEFAULT_HARD.items())
    add("--eviction-hard", type=_signals, default=hard, help="signal<quantity,… at which pods are evicted at once")
    add("--eviction-soft", type=_signals, default={}, help="signal<quantity,… at which pods are evicted after a grace period")
    add("--eviction-soft-grace-period", type=_pairs, default={}, help="signal=duration,…")
    add("--eviction-minimum-reclaim", type=_pairs, default={}, help="signal=quantity,… that must be free beyond the threshold")
    add("--eviction-pressure-transition-period", default="5m0s", help="how long a condition of pressure stays at least")
    add("--eviction-max-pod-grace-period", type=int, default=0, help="seconds, of pods that a soft threshold evicts")
    add("--housekeeping-interval", default="10s", help="how often the node's resources are looked at")
    add("--image-gc-high-threshold", type=int, default=85, help="percent of the image file system; 100 never removes images")
    add("--image-gc-low-threshold", type=int, default=80, help="percent down to which images are removed")
    add("--minimum-image-ttl-duration", default="2m0s", help="an unused image stays at least so long")
    add("--maximum-image-ttl-duration", default="0s", help="an unused image goes after that; 0s for never")
    add(
        "--cpu-manager-policy",
        choices=("none", "static"),
        default="none",
        help="static: whole cpus for Guaranteed pods that ask for such",
    )
    add("--shutdown-grace-period", default="0s", help="SIGTERM ends the node's pods in this time; 0s leaves them running")
    add("--shutdown-grace-period-critical-pods", default="0s", help="what of that is kept for critical pods")
    add(
        "--topology-manager-policy",
        choices=POLICIES,
        default="none",
        help="whether a container's cpus and devices must be near to each other",
    )
    add("--reserved-cpus", default="", help="0-1,4: cpus that no container has to itself; else as many as are reserved")
    add("--system-reserved", type=_pairs, default={}, help="cpu=200m,memory=500Mi,…: not for pods")
    add("--kube-reserved", type=_pairs, default={}, help="the same, for the node's own agents")
    add("--container-log-max-size", default="10Mi", help="a container's log is rotated when it is larger")
    add("--container-log-max-files", type=int, default=5, help="of them, with the one that is written to; at least 2")
    add("--enforce-node-allocatable", default="pods", help="pods: all pods together are held to what is not reserved; none")


def config_of(args: argparse.Namespace) -> Config:
    """UsageError where a value makes no sense."""
    frequency = _seconds(args.node_status_update_frequency, "--node-status-update-frequency")
    if bool(args.tls_cert_file) != bool(args.tls_private_key_file):
        raise daemon.UsageError("--tls-cert-file and --tls-private-key-file go together")
    return Config(
        node_name=(args.hostname_override or socket.gethostname()).lower(),
        runtime_endpoint=args.container_runtime_endpoint,
        root_dir=Path(args.root_dir).absolute(),
        node_ips=args.node_ip,
        cluster_dns=args.cluster_dns,
        cluster_domain=args.cluster_domain,
        address=args.address,
        port=args.port,
        healthz_address=args.healthz_bind_address,
        healthz_port=args.healthz_port,
        tls_cert_file=args.tls_cert_file,
        tls_key_file=args.tls_private_key_file,
        client_ca_file=args.client_ca_file,
        max_pods=args.max_pods,
        node_labels=args.node_labels,
        taints=args.register_with_taints,
        cgroup_root=args.cgroup_root,
        status_frequency=max(0.1, frequency),
        resolv_conf=args.resolv_conf,
        unsafe_sysctls=args.allowed_unsafe_sysctls,
        mount_volumes=args.mount_volumes,
        configuration=args.configuration,
        **_resources(args),
        static_pods=Path(args.pod_manifest_path).absolute() if args.pod_manifest_path else None,
    )


def _resources(args: argparse.Namespace) -> dict[str, Any]:
    from kubeling.api import quantity
    from kubeling.kubelet.imagegc import ImagePolicy
    from kubeling.kubelet.thresholds import parse as parse_thresholds

    graces = {
        signal: _seconds(value, "--eviction-soft-grace-period") for signal, value in args.eviction_soft_grace_period.items()
    }
    try:
        thresholds = parse_thresholds(args.eviction_hard, args.eviction_soft, graces, args.eviction_minimum_reclaim)
        for value in [*args.system_reserved.values(), *args.kube_reserved.values()]:
            quantity.parse(value)
    except ValueError as error:
        raise daemon.UsageError(f"eviction thresholds and reservations: {error}") from error
    images = ImagePolicy(
        args.image_gc_high_threshold,
        args.image_gc_low_threshold,
        _seconds(args.minimum_image_ttl_duration, "--minimum-image-ttl-duration"),
        _seconds(args.maximum_image_ttl_duration, "--maximum-image-ttl-duration"),
    )
    if images.problem():
        raise daemon.UsageError(images.problem())
    if not quantity.is_quantity(args.container_log_max_size) or quantity.units(args.container_log_max_size) <= 0:
        raise daemon.UsageError(f"--container-log-max-size={args.container_log_max_size} is no size; try 10Mi")
    if args.container_log_max_files < 2:
        raise daemon.UsageError(f"--container-log-max-files={args.container_log_max_files}: there must be room for two")
    return {
        "thresholds": thresholds,
        "pressure_transition": _seconds(args.eviction_pressure_transition_period, "--eviction-pressure-transition-period"),
        "eviction_max_grace": args.eviction_max_pod_grace_period,
        "housekeeping": max(0.1, _seconds(args.housekeeping_interval, "--housekeeping-interval")),
        "image_policy": images,
        "log_max_size": quantity.units(args.container_log_max_size),
        "log_max_files": args.container_log_max_files,
        "system_reserved": args.system_reserved,
        "kube_reserved": args.kube_reserved,
        "enforce_allocatable": _enforced(args.enforce_node_allocatable),
        **_cpus(args),
        **_shutdown(args),
    }


def _enforced(text: str) -> bool:
    wanted = {each for each in text.split(",") if each not in ("", "none")}
    if wanted - {"pods"}:
        raise daemon.UsageError(f"--enforce-node-allocatable={text}: pods, or none; what is reserved has no cgroup of its own")
    return bool(wanted)


def _shutdown(args: argparse.Namespace) -> dict[str, float]:
    whole = _seconds(args.shutdown_grace_period, "--shutdown-grace-period")
    critical = _seconds(args.shutdown_grace_period_critical_pods, "--shutdown-grace-period-critical-pods")
    if not 0 <= critical <= whole:
        raise daemon.UsageError("--shutdown-grace-period-critical-pods is a part of --shutdown-grace-period and cannot be longer")
    return {"shutdown_grace": whole, "shutdown_grace_critical": critical}


def _cpus(args: argparse.Namespace) -> dict[str, str]:
    from kubeling.api import quantity
    from kubeling.kubelet.cpus import available_cpus, parse_cpus, reserved_cpus

    try:
        parse_cpus(args.reserved_cpus)
    except ValueError as error:
        raise daemon.UsageError(f"--reserved-cpus={args.reserved_cpus}: {error}; try 0-1,4") from error
    reserved = sum(quantity.milli(each.get("cpu")) for each in (args.system_reserved, args.kube_reserved))
    if args.cpu_manager_policy == "static" and not reserved_cpus(args.reserved_cpus, reserved, available_cpus()):
        raise daemon.UsageError(
            "--cpu-manager-policy=static needs cpus that stay shared: --reserved-cpus, or cpu in --system-reserved or --kube-reserved"
        )
    return {
        "cpu_policy": args.cpu_manager_policy,
        "topology_policy": args.topology_manager_policy,
        "reserved_cpus": args.reserved_cpus,
    }


def _seconds(text: str, flag: str) -> float:
    from kubeling.api.times import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise daemon.UsageError(f"{flag}: {error}; try 10s") from error


async def _run(args: argparse.Namespace) -> None:
    from kubeling.client import kubeconfig
    from kubeling.client.rest import Client
    from kubeling.kubelet.kubelet import run

    config = config_of(args)
    try:
        identity = kubeconfig.load(args.kubeconfig)
    except kubeconfig.KubeconfigError as error:
        raise daemon.UsageError(str(error)) from error
    try:
        config.root_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise daemon.UsageError(f"cannot make --root-dir {config.root_dir}: {error.strerror}") from error
    async with Client(identity, user_agent="kubelet/kubeling") as client:
        await run(config, client)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    return daemon.run(args, _run(args))


if __name__ == "__main__":
    sys.exit(main())
