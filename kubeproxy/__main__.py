"""`python -m kubeling.kubeproxy`: flags, choice of the backend, health."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from kubeling.daemon import main as daemon


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Upstream's flag names, and `--pod-routes`."""
    flags = daemon.parser("kubeproxy", "Makes Services' addresses work on this node.")
    flags.add_argument("--kubeconfig", required=True)
    flags.add_argument("--hostname-override", default=os.uname().nodename, help="the name of this node's Node object")
    flags.add_argument(
        "--node-ip",
        default="",
        metavar="IP[,IP]",
        help="this node's addresses, one of each family, on which node ports are opened",
    )
    flags.add_argument("--proxy-mode", choices=("auto", "nftables", "userspace"), default="auto")
    flags.add_argument(
        "--cluster-cidr",
        default="",
        help="the pods' ranges, one of each family, with a comma between them; what comes from elsewhere is masqueraded",
    )
    flags.add_argument(
        "--non-masquerade-cidr",
        default="",
        metavar="CIDR[,CIDR]",
        help="what pods send elsewhere than to these ranges has the node's address as its source; empty: nothing has (nftables only)",
    )
    flags.add_argument("--pod-routes", type=daemon.boolean, default=False, help="keep the routes to the other nodes' pods")
    flags.add_argument(
        "--network-policy", type=daemon.boolean, default=True, help="enforce NetworkPolicies for this node's pods (nftables only)"
    )
    flags.add_argument(
        "--healthz-bind-address", default="127.0.0.1:10256", help="address:port of /healthz and /metrics; empty serves nothing"
    )
    flags.add_argument("--cleanup", action="store_true", help="take all rules of this proxy away and exit")
    return daemon.parse(flags, argv)


async def run(args: argparse.Namespace) -> None:
    """Serve until cancelled."""
    from kubeling.client import kubeconfig
    from kubeling.client.informer import InformerFactory
    from kubeling.client.rest import Client
    from kubeling.daemon.serving import StatusServer, health_pages
    from kubeling.daemon.tasks import Supervisor
    from kubeling.kubeproxy.backend import Backend, NftBackend
    from kubeling.kubeproxy.nft import Table
    from kubeling.kubeproxy.nftwatch import NftWatch
    from kubeling.kubeproxy.policy import ruleset
    from kubeling.kubeproxy.policy.keeper import PolicyKeeper
    from kubeling.kubeproxy.proxy import Proxy
    from kubeling.kubeproxy.reuse import ReuseWatch
    from kubeling.kubeproxy.routes import RouteKeeper
    from kubeling.kubeproxy.userspace import UserspaceBackend

    mode = args.proxy_mode
    if mode == "auto":
        mode = "nftables" if shutil.which("nft") else "userspace"
    if mode == "nftables" and not shutil.which("nft"):
        raise daemon.UsageError(
            "--proxy-mode=nftables needs the program nft: apt-get install nftables, or use --proxy-mode=userspace"
        )
    cluster_cidrs = [each for each in args.cluster_cidr.split(",") if each]
    own = [each.strip() for each in args.node_ip.split(",") if each.strip()]
    backend: Backend
    watch, reuse = NftWatch(), ReuseWatch()
    noticed = False
    if mode == "nftables":
        noticed = not args.cleanup and reuse.open()
        nft = NftBackend(
            cluster_cidrs=cluster_cidrs,
            node_ips=[*own, "127.0.0.1"],
            inside=filter(None, args.non_masquerade_cidr.split(",")),
            reuse=noticed,
            watch=watch,
        )
        if args.cleanup:
            await nft.cleanup()
            await Table(ruleset.TABLE).apply(ruleset.removal())
            return
        backend = nft
    else:
        on_loopback = bool(own) and own[0].startswith("127.")
        backend = UserspaceBackend(
            node_port_addresses=own if on_loopback else [*own, "127.0.0.1"],
            manage_addresses=not on_loopback and os.geteuid() == 0,
        )
    try:
        config = kubeconfig.load(args.kubeconfig)
    except kubeconfig.KubeconfigError as error:
        raise daemon.UsageError(str(error)) from error
    async with Client(config, user_agent="kube-proxy") as client, Supervisor() as parts:
        informers = InformerFactory(client)
        routes = RouteKeeper(cluster_cidrs) if args.pod_routes else None
        # Everybody's address of both families is "" (of IPv4, "0.0.0.0").
        everywhere = "" if any(":" in each for each in own) else "0.0.0.0"
        health = own[0] if own and own[0].startswith("127.") else everywhere
        proxy = Proxy(informers, backend, node=args.hostname_override, node_ips=own, routes=routes, health_address=health)
        policies = None
        if isinstance(backend, NftBackend):
            backend.on_tampered = proxy.resync
            parts.start("rule watch", watch.run)
            if noticed:
                parts.start("reused ports", reuse.run)
            if args.network_policy:
                policies = PolicyKeeper(client, informers, node=args.hostname_override, watch=watch)
                parts.start("network policies", policies.run)
        informers.start(parts)
        if args.healthz_bind_address:
            host, _, port = args.healthz_bind_address.rpartition(":")
            server = StatusServer(health_pages(lambda: proxy.problem or (policies.problem if policies else None)))
            parts.start("status server", lambda: server.run(host.strip("[]"), int(port)))
        try:
            await proxy.run()
        finally:
            await backend.close()


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    return daemon.run(args, run(args))


if __name__ == "__main__":
    sys.exit(main())
