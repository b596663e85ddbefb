"""`python -m kubeling.scheduler`: flags, leader election, health and metrics."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kubeling.client import identity
from kubeling.daemon import main as daemon


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Upstream's flag names."""
    flags = daemon.parser("scheduler", "Decides which node each pod runs on.")
    flags.add_argument("--kubeconfig", required=True)
    flags.add_argument("--leader-elect", type=daemon.boolean, default=True)
    flags.add_argument("--leader-elect-identity", default=identity.make())
    flags.add_argument("--bind-address", default="127.0.0.1", help="where /healthz and /metrics are served")
    flags.add_argument("--secure-port", type=int, default=10259, help="0 serves nothing")
    flags.add_argument(
        "--config", default="", help="a KubeSchedulerConfiguration: profiles, plugins and their arguments, extenders"
    )
    flags.add_argument(
        "--scheduler-name", default="default-scheduler", help="the schedulerName of the only profile, where there is no --config"
    )
    return flags.parse_args(argv)


async def run(args: argparse.Namespace) -> None:
    """Campaign, schedule while leading, until cancelled."""
    from kubeling.client import kubeconfig
    from kubeling.client.events import EventRecorder
    from kubeling.client.informer import InformerFactory
    from kubeling.client.leaderelection import LeaderElector
    from kubeling.client.rest import Client
    from kubeling.daemon.serving import StatusServer, health_pages
    from kubeling.daemon.tasks import Supervisor
    from kubeling.scheduler.config import Profile, SchedulerConfig, load
    from kubeling.scheduler.registry import ConfigError
    from kubeling.scheduler.scheduler import Scheduler

    try:
        config = kubeconfig.load(args.kubeconfig)
        settings = load(args.config) if args.config else SchedulerConfig((Profile(args.scheduler_name),))
    except (kubeconfig.KubeconfigError, ConfigError) as error:
        raise daemon.UsageError(str(error)) from error
    async with Client(config, user_agent="kube-scheduler") as client:

        async def lead() -> None:
            informers = InformerFactory(client)
            recorder = EventRecorder(client, args.scheduler_name, host=os.uname().nodename)
            scheduler = Scheduler(client, informers, recorder, config=settings)
            async with Supervisor() as work:
                work.start("event recorder", recorder.run)
                informers.start(work)
                await scheduler.run()

        async with Supervisor() as parts:
            if args.secure_port:
                server = StatusServer(health_pages())
                parts.start("status server", lambda: server.run(args.bind_address, args.secure_port))
            if args.leader_elect:
                elector = LeaderElector(client, "kube-scheduler", args.leader_elect_identity)
                await elector.run(lead)
            else:
                await lead()


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    return daemon.run(args, run(args))


if __name__ == "__main__":
    sys.exit(main())
