"""`python -m kubeling.scheduler`: flags, leader election, health and metrics."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kubeling.client import identity
from kubeling.daemon import main as daemon

if TYPE_CHECKING:
    from kubeling.daemon.serving import Page
    from kubeling.scheduler.scheduler import Scheduler

#: On the Lease: where the leader's status port is, and whose pods it schedules. The apiserver's pods/scheduling finds it by them.
STATUS_ANNOTATION = "scheduling.kubeling.dev/status-address"
PROFILES_ANNOTATION = "scheduling.kubeling.dev/profiles"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Upstream's flag names."""
    flags = daemon.parser("scheduler", "Decides which node each pod runs on.")
    flags.add_argument("--kubeconfig", required=True)
    flags.add_argument("--leader-elect", type=daemon.boolean, default=True)
    flags.add_argument("--leader-elect-lease-duration", default="15s")
    flags.add_argument("--leader-elect-renew-deadline", default="10s")
    flags.add_argument("--leader-elect-retry-period", default="2s")
    flags.add_argument("--leader-elect-identity", default=identity.make())
    flags.add_argument(
        "--leader-elect-resource-name", default="kube-scheduler", help="the Lease in kube-system; another for another scheduler"
    )
    flags.add_argument("--bind-address", default="127.0.0.1", help="where /healthz and /metrics are served")
    flags.add_argument("--secure-port", type=int, default=10259, help="0 serves nothing")
    flags.add_argument(
        "--config", default="", help="a KubeSchedulerConfiguration: profiles, plugins and their arguments, extenders"
    )
    flags.add_argument(
        "--scheduler-name", default="default-scheduler", help="the schedulerName of the only profile, where there is no --config"
    )
    return daemon.parse(flags, argv)


async def run(args: argparse.Namespace) -> None:
    """Campaign, schedule while leading, until cancelled."""
    from kubeling.api.resources import PODS
    from kubeling.client import kubeconfig
    from kubeling.client.events import EventRecorder
    from kubeling.client.informer import InformerFactory
    from kubeling.client.leaderelection import LeaderElector, Timing
    from kubeling.client.rest import Client
    from kubeling.client.sharing import Sharing
    from kubeling.daemon.serving import StatusServer, health_pages
    from kubeling.daemon.tasks import Supervisor
    from kubeling.scheduler.config import Profile, SchedulerConfig, load
    from kubeling.scheduler.registry import ConfigError, parse_duration
    from kubeling.scheduler.scheduler import Scheduler
    from kubeling.scheduler.trimming import trimmed

    try:
        config = kubeconfig.load(args.kubeconfig)
        timing = Timing(
            parse_duration(args.leader_elect_lease_duration),
            parse_duration(args.leader_elect_renew_deadline),
            parse_duration(args.leader_elect_retry_period),
        )
        settings = load(args.config) if args.config else SchedulerConfig((Profile(args.scheduler_name),))
    except (kubeconfig.KubeconfigError, ConfigError) as error:
        raise daemon.UsageError(str(error)) from error
    async with Client(config, user_agent="kube-scheduler") as client:

        async def lead() -> None:
            sharing = Sharing()
            informers = InformerFactory(client, shapes={PODS: lambda pod: sharing(trimmed(pod))})
            recorder = EventRecorder(client, args.scheduler_name, host=os.uname().nodename)
            scheduler = Scheduler(client, informers, recorder, config=settings, may_bind=may_bind, bind_seconds=seconds)
            async with Supervisor() as work:
                work.start("event recorder", recorder.run)
                informers.start(work)
                running.append(scheduler)
                try:
                    await scheduler.run()
                finally:
                    running.remove(scheduler)

        running: list[Scheduler] = []
        electors: list[LeaderElector] = []
        leads = args.leader_elect
        # A binding must have been sent and answered before a successor can begin.
        seconds = (timing.lease_duration - timing.renew_deadline) * 0.8 if leads else None

        def may_bind() -> bool:
            return not leads or (bool(electors) and electors[0].is_certain)

        def explain(query: Mapping[str, str]) -> Page:
            return explanation(running[0] if running else None, query)

        async def suppose(body: bytes) -> Page:
            return await supposition(running[0] if running else None, body)

        async with Supervisor() as parts:
            if args.secure_port:
                server = StatusServer(health_pages(), {"/explain": explain}, {"/simulate": suppose})
                parts.start("status server", lambda: server.run(args.bind_address, args.secure_port))
            if args.leader_elect:
                elector = LeaderElector(
                    client,
                    args.leader_elect_resource_name,
                    args.leader_elect_identity,
                    timing=timing,
                    annotations={
                        STATUS_ANNOTATION: f"{args.bind_address}:{args.secure_port}",
                        PROFILES_ANNOTATION: ",".join(profile.name for profile in settings.profiles),
                    },
                )
                electors.append(elector)
                await elector.run(lead)
            else:
                await lead()


def explanation(scheduler: Scheduler | None, query: Mapping[str, str]) -> Page:
    """`/explain?namespace=…&name=…[&limit=…][&node=…]`: see :mod:`kubeling.scheduler.explain`."""
    import orjson

    from kubeling.daemon.serving import Page
    from kubeling.scheduler.explain import DEFAULT_LIMIT

    if scheduler is None:
        return Page("this scheduler does not lead\n", 503)
    limit = query.get("limit", "")
    found = scheduler.explain(
        query.get("namespace", ""),
        query.get("name", ""),
        limit=int(limit) if limit.isdigit() else DEFAULT_LIMIT,
        node=query.get("node", ""),
    )
    if found is None:
        return Page("there is no such pod, or another scheduler's\n", 404)
    return Page(orjson.dumps(found), content_type="application/json")


async def supposition(scheduler: Scheduler | None, body: bytes) -> Page:
    """`POST /simulate`: see :mod:`kubeling.scheduler.simulate`."""
    import orjson

    from kubeling.daemon.serving import Page
    from kubeling.scheduler.simulate import BadQuestion, simulate

    if scheduler is None:
        return Page("this scheduler does not lead\n", 503)
    try:
        found = await simulate(scheduler.cache, scheduler.frameworks, orjson.loads(body))
    except (BadQuestion, orjson.JSONDecodeError) as error:
        return Page(f"{error}\n", 400)
    return Page(orjson.dumps(found), content_type="application/json")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    return daemon.run(args, run(args))


if __name__ == "__main__":
    sys.exit(main())
