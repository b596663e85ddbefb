"""``python -m kubeling.cloud``: the flags of cloud-controller-manager."""

from __future__ import annotations

import argparse
import ipaddress
import sys

from kubeling.client.kubeconfig import KubeconfigError, load
from kubeling.cloud import manager
from kubeling.cloud.autoscaler import settings
from kubeling.cloud.providers.local import DEFAULT_CIDR
from kubeling.daemon import main as daemon


def flags() -> argparse.ArgumentParser:
    """All flags."""
    made = daemon.parser("cloud", "cloud-controller-manager: load balancers from a cloud provider.")
    add = made.add_argument
    add("--kubeconfig", help="how to reach the apiservers, and as whom")
    add("--cloud-provider", default="local", help="'local', or one that is registered as an entry point")
    add("--leader-elect", type=daemon.boolean, default=True, metavar="BOOL")
    add("--dial-netns", default="", metavar="PATH", help="the network namespace from which nodes are dialled (local)")
    add("--load-balancer-cidr", default=DEFAULT_CIDR, metavar="CIDR", help="loopback addresses for LoadBalancer Services (local)")
    add("--control-socket", default="", metavar="PATH", help="the supervisor's, which owns the machines (local)")
    add("--cluster-name", default="kubernetes", help="how the cloud knows this cluster")
    add("--cluster-cidr", default="", metavar="CIDR,…", help="of pods: the routes to these are ours, where the cloud needs some")
    add("--configure-cloud-routes", type=daemon.boolean, default=True, metavar="BOOL")
    add("--bind-address", default="127.0.0.1", help="address of the health and metrics page")
    add("--secure-port", type=int, default=10258, metavar="PORT", help="its port; 0 for none")
    settings.add_flags(made)
    return made


def configure(args: argparse.Namespace) -> manager.Config:
    """From flags to a configuration. UsageError with a remedy where they make no sense."""
    try:
        network = ipaddress.ip_network(args.load_balancer_cidr)
        client = load(args.kubeconfig)
    except ValueError as error:
        raise daemon.UsageError(f"--load-balancer-cidr: {error}: write it like {DEFAULT_CIDR}") from error
    except KubeconfigError as error:
        raise daemon.UsageError(str(error)) from error
    if args.cloud_provider == "local" and not network.is_loopback:
        raise daemon.UsageError(f"--load-balancer-cidr {network} is not on the loopback: the local provider serves 127.0.0.0/8")
    options = {
        "dial-netns": args.dial_netns,
        "load-balancer-cidr": str(network),
        "control-socket": args.control_socket,
    }
    cidrs = tuple(each for each in args.cluster_cidr.split(",") if each) if args.configure_cloud_routes else ()
    return manager.Config(
        client,
        args.cloud_provider,
        options,
        args.leader_elect,
        args.bind_address,
        args.secure_port,
        cluster_name=args.cluster_name,
        cluster_cidrs=cidrs,
        autoscaler=settings.from_flags(args) if args.autoscale else None,
    )


def main(argv: list[str] | None = None) -> int:
    """Parse, run, return the exit status."""
    args = daemon.parse(flags(), argv, settings.from_flags)
    try:
        config = configure(args)
    except daemon.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return daemon.run(args, manager.run(config))


if __name__ == "__main__":
    sys.exit(main())
