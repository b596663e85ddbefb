"""`python -m kubeling.bench [cluster|etcd|api|scheduler|controllers|hollow|net|node]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kubeling.bench import hollow, report
from kubeling.bench.api import run as api
from kubeling.bench.controllers import run as controllers
from kubeling.bench.etcd import run as etcd
from kubeling.bench.net import run as net
from kubeling.bench.node import run as nodes
from kubeling.bench.scheduler import run as scheduler


def _cluster_flags(flags: argparse.ArgumentParser) -> None:
    flags.add_argument("--rounds", type=int, default=3, help="cold starts")
    flags.add_argument("--pods", type=int, default=40, help="pods started one after the other")
    flags.add_argument("--idle-seconds", type=float, default=20)
    flags.add_argument("--json", type=Path, default=Path("bench/results/cluster.json"))


def _cluster(args: argparse.Namespace) -> int:
    from kubeling.bench import cluster

    figures = cluster.run(rounds=args.rounds, pods=args.pods, idle_seconds=args.idle_seconds)
    print(report.show(figures))
    report.write(figures, args.json)
    print(f"\nwritten to {args.json}")
    return 0


def main(argv: list[str]) -> int:
    """Run one suite; without a name the first."""
    flags = argparse.ArgumentParser(prog="python -m kubeling.bench", description="Measure on this machine.")
    suites = flags.add_subparsers(title="suites")
    cluster = suites.add_parser("cluster", help="a whole cluster: cold start, pod start, idle cost, API load")
    _cluster_flags(cluster)
    cluster.set_defaults(run=_cluster)
    store = suites.add_parser("etcd", help="the store beside real etcd")
    etcd.add_flags(store)
    store.set_defaults(run=etcd.run)
    front = suites.add_parser("api", help="the apiserver, beside a real one where it is installed")
    api.add_flags(front)
    front.set_defaults(run=api.run)
    scheduling = suites.add_parser("scheduler", help="upstream's scheduler_perf workloads: decisions and pods a second")
    scheduler.add_flags(scheduling)
    scheduling.set_defaults(run=scheduler.run)
    loops = suites.add_parser("controllers", help="many replicas, many rollouts, much garbage, a full namespace")
    controllers.add_flags(loops)
    loops.set_defaults(run=controllers.run)
    big = suites.add_parser(
        "hollow", help="1,000 hollow nodes: until all are Ready, 1,000 pods, and what they cost; --hold 29000 for 30,000 pods"
    )
    hollow.add_flags(big)
    big.set_defaults(run=hollow.run)
    network = suites.add_parser("net", help="Services and DNS: rule changes, connections, answers")
    net.add_flags(network)
    network.set_defaults(run=net.run)
    node = suites.add_parser(
        "node", help="a node: pod start, 110 pods, idle cost, exec, logs, images; beside containerd and runc"
    )
    nodes.add_flags(node)
    node.set_defaults(run=nodes.run)
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv = ["cluster", *argv]
    args = flags.parse_args(argv)
    status: int = args.run(args)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
