"""``python -m kubeling.controllers``: the flags of kube-controller-manager."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kubeling.client.kubeconfig import KubeconfigError, load
from kubeling.client.leaderelection import Timing
from kubeling.controllers import manager, registry
from kubeling.controllers.context import Options
from kubeling.controllers.kubernetes_service import parse_endpoint
from kubeling.controllers.node_ipam import ranges_of
from kubeling.daemon import main as daemon


def flags() -> argparse.ArgumentParser:
    """All flags; their defaults are upstream's."""
    made = daemon.parser("controllers", "kube-controller-manager: runs the control loops of the cluster.")
    add = made.add_argument
    default = Options()
    add("--kubeconfig", help="how to reach the apiservers, and as whom")
    add("--leader-elect", type=daemon.boolean, default=True, metavar="BOOL")
    add("--leader-elect-lease-duration", type=seconds, default=15.0, metavar="DURATION")
    add("--leader-elect-renew-deadline", type=seconds, default=10.0, metavar="DURATION")
    add("--leader-elect-retry-period", type=seconds, default=2.0, metavar="DURATION")
    add("--bind-address", default="127.0.0.1", help="address of the health and metrics page")
    add("--secure-port", type=int, default=10257, metavar="PORT", help="its port; 0 for none")
    add("--controllers", default="*", help="'*' for all, 'x' for one, '-x' to leave one out, comma separated")
    add("--cluster-cidr", default=default.cluster_cidr, metavar="CIDR[,CIDR]", help="where pods' addresses come from")
    add("--allocate-node-cidrs", type=daemon.boolean, default=True, metavar="BOOL")
    add("--node-cidr-mask-size", type=int, default=default.node_cidr_mask_size, metavar="BITS", help="where there is one range")
    add("--node-cidr-mask-size-ipv4", type=int, default=default.node_cidr_mask_size_ipv4, metavar="BITS")
    add("--node-cidr-mask-size-ipv6", type=int, default=default.node_cidr_mask_size_ipv6, metavar="BITS")
    add("--service-cluster-ip-range", default=default.service_cluster_ip_range, metavar="CIDR[,CIDR]")
    add("--root-ca-file", metavar="FILE", help="the CA bundle that is published to all namespaces")
    add("--service-account-private-key-file", metavar="FILE", help="the key that signs tokens in Secrets")
    add("--legacy-service-account-token-clean-up-period", type=seconds, default=default.legacy_token_period, metavar="DURATION")
    add("--cluster-signing-cert-file", metavar="FILE", help="the CA that signs CertificateSigningRequests")
    add("--cluster-signing-key-file", metavar="FILE", help="its key")
    add("--cluster-signing-duration", type=seconds, default=default.signing_duration, metavar="DURATION")
    add("--apiserver-endpoints", default="", metavar="IP:PORT,…", help="the apiservers, where they keep no Leases that say so")
    add("--node-monitor-grace-period", type=seconds, default=default.node_monitor_grace_period, metavar="DURATION")
    add("--node-startup-grace-period", type=seconds, default=default.node_startup_grace_period, metavar="DURATION")
    add("--node-eviction-rate", type=float, default=default.node_eviction_rate, metavar="NODES/S")
    add("--secondary-node-eviction-rate", type=float, default=default.secondary_node_eviction_rate, metavar="NODES/S")
    add("--unhealthy-zone-threshold", type=float, default=default.unhealthy_zone_threshold, metavar="SHARE")
    add("--large-cluster-size-threshold", type=int, default=default.large_cluster_size_threshold, metavar="NODES")
    add("--terminated-pod-gc-threshold", type=int, default=default.terminated_pod_gc_threshold, metavar="PODS")
    return made


def seconds(text: str) -> float:
    """Go's durations (`40s`, `1m`), as seconds."""
    from kubeling.api.times import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}: write it like 40s or 1m30s") from None


def _read(flag: str, path: str | None) -> str:
    try:
        return Path(path).read_text() if path else ""
    except OSError as error:
        raise daemon.UsageError(f"cannot read {flag} {path}: {error.strerror}") from error


def configure(args: argparse.Namespace) -> manager.Config:
    """From flags to a configuration. UsageError with a remedy where they make no sense."""
    try:
        endpoints = tuple(each.strip() for each in args.apiserver_endpoints.split(",") if each.strip())
        for each in endpoints:
            parse_endpoint(each)
        controllers = tuple(args.controllers.split(","))
        names = registry.chosen(controllers)
        root_ca = _read("--root-ca-file", args.root_ca_file)
        key = _read("--service-account-private-key-file", args.service_account_private_key_file)
        signer = _read("--cluster-signing-cert-file", args.cluster_signing_cert_file)
        signing_key = _read("--cluster-signing-key-file", args.cluster_signing_key_file)
        if args.allocate_node_cidrs:
            masks = (args.node_cidr_mask_size, args.node_cidr_mask_size_ipv4, args.node_cidr_mask_size_ipv6)
            ranges_of(args.cluster_cidr, *masks)
        client = load(args.kubeconfig)
    except (ValueError, KubeconfigError) as error:
        raise daemon.UsageError(str(error)) from error
    without = {
        name
        for name, needed in (
            ("root-ca-certificate-publisher", root_ca),
            ("serviceaccount-token", key),
            ("nodeipam", args.allocate_node_cidrs),
            ("csrsigning", signer and signing_key),
        )
        if not needed
    }
    return manager.Config(
        client=client,
        options=Options(
            cluster_cidr=args.cluster_cidr,
            allocate_node_cidrs=args.allocate_node_cidrs,
            node_cidr_mask_size=args.node_cidr_mask_size,
            node_cidr_mask_size_ipv4=args.node_cidr_mask_size_ipv4,
            node_cidr_mask_size_ipv6=args.node_cidr_mask_size_ipv6,
            service_cluster_ip_range=args.service_cluster_ip_range,
            root_ca=root_ca,
            service_account_private_key=key,
            legacy_token_period=args.legacy_service_account_token_clean_up_period,
            signing_certificate=signer,
            signing_key=signing_key,
            signing_duration=args.cluster_signing_duration,
            apiserver_endpoints=endpoints,
            node_monitor_grace_period=args.node_monitor_grace_period,
            node_startup_grace_period=args.node_startup_grace_period,
            node_eviction_rate=args.node_eviction_rate,
            secondary_node_eviction_rate=args.secondary_node_eviction_rate,
            unhealthy_zone_threshold=args.unhealthy_zone_threshold,
            large_cluster_size_threshold=args.large_cluster_size_threshold,
            terminated_pod_gc_threshold=args.terminated_pod_gc_threshold,
        ),
        controllers=tuple(name for name in names if name not in without),
        leader_elect=args.leader_elect,
        bind_address=args.bind_address,
        port=args.secure_port,
        timing=Timing(args.leader_elect_lease_duration, args.leader_elect_renew_deadline, args.leader_elect_retry_period),
    )


def main(argv: list[str] | None = None) -> int:
    """Parse, run, return the exit status."""
    args = daemon.parse(flags(), argv)
    try:
        config = configure(args)
    except daemon.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return daemon.run(args, manager.run(config))


if __name__ == "__main__":
    sys.exit(main())
