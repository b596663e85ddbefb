"""What can be set of the cluster autoscaler: upstream's flags and defaults, but for `--scan-interval`, which here is the shortest time between two looks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field

from kubeling.api.times import parse_duration
from kubeling.daemon import main as daemon

EXPANDERS = ("random", "least-waste", "most-pods", "least-nodes", "priority")


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds."""

    scan_interval: float = 1.0
    expander: tuple[str, ...] = ("least-waste",)
    #: Group → priority, for the expander of that name; groups that are not in it have none.
    priorities: Mapping[str, int] = field(default_factory=dict)
    max_nodes_total: int = 0
    max_node_provision: float = 900.0
    new_pod_delay: float = 0.0
    expendable_priority: int = -10
    enforce_min_size: bool = True
    scale_down: bool = True
    unneeded: float = 600.0
    unready: float = 1200.0
    threshold: float = 0.5
    delay_after_add: float = 600.0
    delay_after_delete: float = 0.0
    delay_after_failure: float = 180.0
    max_pod_eviction: float = 120.0
    max_graceful_termination: float = 600.0
    max_empty_bulk_delete: int = 10
    max_drain_parallelism: int = 1
    skip_system_pods: bool = True
    skip_local_storage: bool = True
    ignore_daemonsets: bool = False
    ignore_mirrors: bool = False
    evict_daemons: bool = True
    backoff_initial: float = 300.0
    backoff_max: float = 1800.0


_SECONDS = (
    ("scan-interval", "scan_interval", "how soon after one look the next may follow; what wakes it are changes"),
    ("max-node-provision-time", "max_node_provision", "a machine whose node is not ready by then is given up"),
    ("new-pod-scale-up-delay", "new_pod_delay", "pods younger than that wake nobody"),
    ("scale-down-unneeded-time", "unneeded", "how long a node must have been unneeded"),
    ("scale-down-unready-time", "unready", "how long one that is not ready"),
    ("scale-down-delay-after-add", "delay_after_add", "how long after a scale-up nothing is taken away"),
    ("scale-down-delay-after-delete", "delay_after_delete", "how long after a node was taken away"),
    ("scale-down-delay-after-failure", "delay_after_failure", "how long after that failed"),
    ("max-pod-eviction-time", "max_pod_eviction", "how long one pod is tried to be evicted"),
    ("max-graceful-termination-sec", "max_graceful_termination", "how long evicted pods may take to end"),
    ("initial-node-group-backoff-duration", "backoff_initial", "how long a group is left alone after its cloud failed"),
    ("max-node-group-backoff-duration", "backoff_max", "at most, when it fails again"),
)
_NUMBERS = (
    ("max-nodes-total", "max_nodes_total", "of the whole cluster; 0 for no limit"),
    ("expendable-pods-priority-cutoff", "expendable_priority", "pods below it bring no machines, and hold none"),
    ("max-empty-bulk-delete", "max_empty_bulk_delete", "empty nodes taken away at once"),
    ("max-drain-parallelism", "max_drain_parallelism", "nodes with pods taken away at once"),
)
_SWITCHES = (
    ("enforce-node-group-min-size", "enforce_min_size", "bring groups to their minimum"),
    ("scale-down-enabled", "scale_down", "take away what is not needed"),
    ("skip-nodes-with-system-pods", "skip_system_pods", "leave nodes with pods of kube-system that no budget covers"),
    ("skip-nodes-with-local-storage", "skip_local_storage", "leave nodes with pods that have an emptyDir or a hostPath"),
    ("ignore-daemonsets-utilization", "ignore_daemonsets", "do not count pods of DaemonSets as use"),
    (
        "daemonset-eviction-for-occupied-nodes",
        "evict_daemons",
        "let pods of DaemonSets end in order too, where others had to move",
    ),
    ("ignore-mirror-pods-utilization", "ignore_mirrors", "do not count mirror pods as use"),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All of them, in a group of their own."""
    group = parser.add_argument_group("cluster autoscaler")
    defaults = Settings()
    group.add_argument("--autoscale", type=daemon.boolean, default=False, metavar="BOOL", help="run the cluster autoscaler")
    group.add_argument(
        "--expander", default="least-waste", help=f"which group grows: {', '.join(EXPANDERS)}; several, first wins"
    )
    group.add_argument("--expander-priorities", default="", metavar="GROUP=N,…", help="of the expander `priority`, highest first")
    group.add_argument("--scale-down-utilization-threshold", type=float, default=defaults.threshold, metavar="N")
    for flag, name, text in _SECONDS:
        group.add_argument(f"--{flag}", dest=name, default=f"{getattr(defaults, name):g}s", metavar="TIME", help=text)
    for flag, name, text in _NUMBERS:
        group.add_argument(f"--{flag}", dest=name, type=int, default=getattr(defaults, name), metavar="N", help=text)
    for flag, name, text in _SWITCHES:
        group.add_argument(
            f"--{flag}", dest=name, type=daemon.boolean, default=getattr(defaults, name), metavar="BOOL", help=text
        )


def from_flags(args: argparse.Namespace) -> Settings:
    """UsageError where a value makes no sense."""
    chosen = tuple(each for each in args.expander.split(",") if each)
    if unknown := [each for each in chosen if each not in EXPANDERS]:
        raise daemon.UsageError(f"--expander={args.expander}: there is no {unknown[0]!r}; there are {', '.join(EXPANDERS)}")
    if not 0 <= args.scale_down_utilization_threshold <= 1:
        raise daemon.UsageError("--scale-down-utilization-threshold is between 0 and 1")
    values = {name: getattr(args, name) for _, name, _ in (*_NUMBERS, *_SWITCHES)}
    values |= {name: _seconds(flag, getattr(args, name)) for flag, name, _ in _SECONDS}
    return Settings(
        expander=chosen or ("random",),
        priorities=_priorities(args.expander_priorities),
        threshold=args.scale_down_utilization_threshold,
        **values,
    )


def _seconds(flag: str, text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        if text.isdecimal():  # upstream's `…-sec` flags are bare numbers
            return float(text)
        raise daemon.UsageError(f"--{flag}: {error}; try 10s") from error


def _priorities(text: str) -> dict[str, int]:
    pairs = [each.partition("=") for each in text.split(",") if each]
    if any(not number.lstrip("-").isdecimal() for _, _, number in pairs):
        raise daemon.UsageError(f"--expander-priorities={text}: write GROUP=NUMBER,…")
    return {name: int(number) for name, _, number in pairs}
