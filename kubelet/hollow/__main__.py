"""`python -m kubeling.kubelet.hollow`: many kubelets with a fake runtime in one process."""

from __future__ import annotations

import sys

from kubeling.daemon import main as daemon


def main(argv: list[str] | None = None) -> int:
    """Parse flags and run."""
    parser = daemon.parser(
        "kubelet.hollow", "Kubelets of many nodes in one process, whose pods run nothing and say that they do."
    )
    parser.add_argument("--kubeconfig", default="")
    parser.add_argument(
        "--nodes", type=int, default=1, help="how many nodes to register; those with the label are played besides"
    )
    parser.add_argument("--config", default="", help="a HollowConfiguration and Stages, as YAML documents")
    parser.add_argument("--node-ip", default="127.0.0.1", help="the address of every node, at which their API is served")
    parser.add_argument("--port", type=int, default=0, help="of the kubelet's API; 0 for none")
    parser.add_argument("--tls-cert-file", default="")
    parser.add_argument("--tls-private-key-file", default="")
    parser.add_argument("--client-ca-file", default="")
    parser.add_argument("--healthz-bind-address", default="127.0.0.1")
    parser.add_argument("--healthz-port", type=int, default=0, help="health and metrics; 0 for none")
    parser.add_argument("--validate", action="store_true", help="read the configuration, and do nothing else")
    args = parser.parse_args(argv)

    async def work() -> None:
        from kubeling.client import kubeconfig
        from kubeling.client.rest import Client
        from kubeling.daemon.clock import SystemClock
        from kubeling.kubelet.hollow import config, hollow

        try:
            settings = config.load(args.config)
            nodes = config.specs(settings.groups, args.nodes)
        except config.BadConfig as error:
            raise daemon.UsageError(str(error)) from error
        if args.validate:
            return
        if not args.kubeconfig:
            raise daemon.UsageError("--kubeconfig is missing")
        if args.port and not (args.tls_cert_file and args.tls_private_key_file):
            raise daemon.UsageError("--port needs --tls-cert-file and --tls-private-key-file")
        found = kubeconfig.load(args.kubeconfig)
        async with (
            Client(found, user_agent="kubeling-hollow") as client,
            Client(found, user_agent="kubeling-hollow") as nodes_client,
        ):
            await hollow.run(
                client,
                nodes_client,
                settings,
                nodes,
                SystemClock(),
                address=args.node_ip,
                port=args.port,
                cert_file=args.tls_cert_file,
                key_file=args.tls_private_key_file,
                client_ca_file=args.client_ca_file,
                health_address=args.healthz_bind_address,
                health_port=args.healthz_port,
            )

    return daemon.run(args, work())


if __name__ == "__main__":
    sys.exit(main())
