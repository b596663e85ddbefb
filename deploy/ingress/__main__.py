"""`python -m kubeling.deploy.ingress`: in a pod, or anywhere with a kubeconfig; `--print-manifest` prints what brings it into a cluster."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from kubeling.daemon import main as daemon

_IPV6 = Path("/proc/net/if_inet6").exists()


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    flags = daemon.parser("deploy.ingress", "Serves Ingresses with HAProxy.")
    flags.add_argument("--print-manifest", action="store_true", help="print the objects that run it in a cluster, and exit")
    flags.add_argument("--kubeconfig", default=None, help="not needed in a pod")
    flags.add_argument(
        "--publish-service", default="ingress/haproxy", help="the Service by which the proxy is reached, as namespace/name"
    )
    flags.add_argument("--http-port", type=int, default=8080)
    flags.add_argument("--https-port", type=int, default=8443)
    flags.add_argument(
        "--folder", type=Path, default=Path("/run/ingress"), help="where HAProxy's files go: nobody else may read there"
    )
    flags.add_argument("--healthz-bind-address", default="0.0.0.0:10254")
    return flags.parse_args(argv)


async def run(args: argparse.Namespace) -> None:
    """Serve until cancelled."""
    from kubeling.client import kubeconfig
    from kubeling.client.rest import Client
    from kubeling.daemon.serving import StatusServer, health_pages
    from kubeling.daemon.tasks import Supervisor
    from kubeling.deploy.ingress.controller import Controller
    from kubeling.deploy.ingress.haproxy import Settings
    from kubeling.deploy.ingress.process import HAProxy

    if shutil.which("haproxy") is None:
        raise daemon.UsageError("the program haproxy is not there: apt-get install haproxy")
    try:
        config = kubeconfig.load(args.kubeconfig)
    except kubeconfig.KubeconfigError as error:
        raise daemon.UsageError(str(error)) from error
    args.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with Client(config, user_agent="haproxy-ingress") as client, Supervisor() as parts:
        settings = Settings(args.folder, args.http_port, args.https_port, ipv6=_IPV6)
        controller = Controller(client, HAProxy(args.folder), settings, args.publish_service)
        host, _, port = args.healthz_bind_address.rpartition(":")
        server = StatusServer(health_pages(lambda: controller.problem))
        parts.start("status server", lambda: server.run(host.strip("[]"), int(port)))
        await controller.run()


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if args.print_manifest:
        from kubeling.deploy.ingress.manifest import text

        print(text(), end="")
        return 0
    return daemon.run(args, run(args))


if __name__ == "__main__":
    sys.exit(main())
