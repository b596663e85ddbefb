"""`python -m kubeling.dns`: flags, server, health."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from kubeling.daemon import main as daemon

#: How long a server that was told to stop goes on answering, after its endpoint has been taken away.
LAME_SECONDS = 0.5


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    flags = daemon.parser("dns", "Answers for the names of the cluster.")
    flags.add_argument("--kubeconfig", required=True)
    flags.add_argument(
        "--listen",
        default="127.0.0.1:53",
        metavar="ADDRESS:PORT[,ADDRESS:PORT]",
        help="UDP and TCP; with --endpoint-name one of each family at most",
    )
    flags.add_argument("--domain", default="cluster.local", help="the cluster's domain")
    flags.add_argument("--endpoint-name", default="", help="register as an endpoint of the kube-dns Service under this name")
    flags.add_argument(
        "--forward", default="/etc/resolv.conf", help="a resolv.conf whose servers are asked for other names, or none"
    )
    flags.add_argument(
        "--healthz-bind-address",
        default="127.0.0.1:9153",
        help="address:port of /healthz, /readyz and /metrics; empty serves nothing",
    )
    return daemon.parse(flags, argv)


async def run(args: argparse.Namespace) -> None:
    """Serve until cancelled."""
    from kubeling.client import kubeconfig
    from kubeling.client.informer import InformerFactory
    from kubeling.client.rest import Client
    from kubeling.daemon.serving import StatusServer, health_pages
    from kubeling.daemon.tasks import Supervisor
    from kubeling.dns.answers import Answerer
    from kubeling.dns.follow import Follower
    from kubeling.dns.forward import Forwarder, upstreams
    from kubeling.dns.peers import Peers
    from kubeling.dns.records import Records
    from kubeling.dns.register import Registration
    from kubeling.dns.server import Server

    listen: list[tuple[str, int]] = []
    for each in args.listen.split(","):
        host, _, port = each.strip().rpartition(":")
        if not host or not port.isdigit():
            raise daemon.UsageError(f"--listen={args.listen}: expected ADDRESS:PORT, for example 172.30.0.11:53 or [fd00::11]:53")
        listen.append((host.strip("[]"), int(port)))
    try:
        config = kubeconfig.load(args.kubeconfig)
    except kubeconfig.KubeconfigError as error:
        raise daemon.UsageError(str(error)) from error
    async with Client(config, user_agent="kubeling-dns") as client, Supervisor() as parts:
        informers = InformerFactory(client)
        records = Records(args.domain)
        follower = Follower(informers, records)
        servers = [] if args.forward == "none" else upstreams(args.forward, own=[host for host, _ in listen])
        answerer, forwarder = Answerer(records, serial=int(time.time())), Forwarder(servers)
        informers.start(parts)
        if args.healthz_bind_address:
            address, _, number = args.healthz_bind_address.rpartition(":")
            status = StatusServer(health_pages(ready=lambda: None if follower.complete else "the records are not complete yet"))
            parts.start("status server", lambda: status.run(address.strip("[]"), int(number)))
        serving = [
            asyncio.create_task(Server(answerer, forwarder, lambda: follower.complete).run(host, own_port))
            for host, own_port in listen
        ]
        try:
            async with Supervisor() as registered:
                for place, (host, own_port) in enumerate(listen if args.endpoint_name else ()):
                    name = args.endpoint_name if place == 0 else f"{args.endpoint_name}-{'ipv6' if ':' in host else 'ipv4'}"
                    made = Registration(client, informers, instance=args.endpoint_name, name=name, ip=host, port=own_port)
                    registered.start(f"registration {name}", made.run)
                if args.endpoint_name:
                    registered.start("peers", Peers(client, informers, args.endpoint_name).run)
                ended, _ = await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
            for each in ended:
                each.result()
        except asyncio.CancelledError:
            # The endpoint has been taken away, and whoever has not heard of it yet is still answered.
            await asyncio.sleep(LAME_SECONDS if args.endpoint_name else 0)
            raise
        finally:
            for each in serving:
                each.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    return daemon.run(args, run(args))


if __name__ == "__main__":
    sys.exit(main())
