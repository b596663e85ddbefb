"""The verbs about clusters themselves: up, down, list, status, logs, node, kubeconfig, image.

They print for people: one line a step with its time, one line for what went wrong. What they do is in :mod:`kubeling.cluster`, imported inside the verbs
so that none pays for another.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubeling.cli import quick

if TYPE_CHECKING:
    from kubeling.cluster.state import State

DEFAULT = "default"
#: What `logs DAEMON` is called inside, since `logs POD` has the name.
DAEMON_LOGS = "daemon-logs"
#: The verbs that :func:`register` adds.
NAMES = frozenset({"up", "down", "delete-cluster", "list", "kubeconfig", "status", DAEMON_LOGS, "node", "image", "etcd"})
_VALUED_LOG_FLAGS = frozenset(("--name", "-c", "--container", "--tail", "--since", "-l", "--selector", "--limit-bytes"))

Name = Annotated[str, typer.Option("--name", envvar="KUBELING_NAME", help="Which cluster.")]


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """One line for what the user can mend, and exit status 1."""
    from kubeling.cluster.state import ClusterError

    try:
        yield
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def up(
    name: Name = DEFAULT,
    control_planes: Annotated[int, typer.Option(help="1, or 3 for a control plane that survives the loss of a node.")] = 1,
    workers: Annotated[int, typer.Option(help="How many nodes run pods.")] = 1,
    network: Annotated[
        str, typer.Option(help="netns: nodes are namespaces on a switch of their own. host: plain processes.")
    ] = "netns",
    runtime: Annotated[str, typer.Option(help="crilite, or the socket of another CRI runtime: unix:///path")] = "crilite",
    api_port: Annotated[int, typer.Option(help="The API's port on 127.0.0.1; 0 takes a free one and keeps it.")] = 0,
    static_pods: Annotated[
        bool, typer.Option("--static-pods", help="The control plane runs as static pods of its nodes' kubelets, as kubeadm's.")
    ] = False,
    ip_families: Annotated[
        str, typer.Option(metavar="IPv4|IPv6|IPv4,IPv6", help="Of pods, Services and nodes; the first is the primary one.")
    ] = "IPv4",
    uplink: Annotated[
        str,
        typer.Option(
            metavar="user|link=NAME",
            help="A way out for nodes and pods: by slirp4netns, or by an interface of the host's: see docs/cluster.md.",
        ),
    ] = "",
    autoscale: Annotated[
        str,
        typer.Option(
            metavar="MIN:MAX|FILE", help="Machines that come and go as pods need them: how many, or a file with node groups."
        ),
    ] = "",
    node_config: Annotated[
        Path | None,
        typer.Option(
            help="Flags of crilite (image policy, mirrors, CNI …) and the kubelets' configuration: see docs/cluster.md."
        ),
    ] = None,
    extra_config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMPONENT.FLAG=VALUE", help="More flags for a daemon, such as scheduler.config=FILE: see docs/cluster.md."
        ),
    ] = None,
    hollow_nodes: Annotated[
        int, typer.Option(help="So many nodes besides whose pods run nothing and say that they do: all in one process.")
    ] = 0,
    hollow_config: Annotated[
        Path | None, typer.Option(help="What hollow nodes and their pods are like: see docs/hollow-nodes.md.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until everything is Ready.")] = True,
    timeout: Annotated[float, typer.Option(help="Give up waiting after so many seconds.")] = 120.0,
    v: Annotated[int, typer.Option("--v", help="Verbosity of the daemons' logs; 4 and above shows debug lines.")] = 0,
    owner: Annotated[int, typer.Option(hidden=True, help="Go down when this process ends.")] = 0,
    merge: Annotated[bool, typer.Option("--merge/--no-merge", hidden=True, help="Change the user's kubeconfig.")] = True,
) -> None:
    """Bring a cluster up, and make it the one that kubectl talks to. One that was stopped is booted again as it was."""
    from kubeling.cluster import launch
    from kubeling.cluster.topology import ClusterSpec

    with plain_errors():
        spec = ClusterSpec(
            name,
            control_planes,
            workers,
            network,
            runtime,
            api_port,
            verbosity=v,
            static_pods=static_pods,
            hollow_nodes=hollow_nodes,
            ip_families=launch.ip_families(ip_families),
        )
        spec = launch.with_node_config(launch.with_groups(spec, autoscale), node_config)
        spec = launch.with_uplink(launch.with_extra(spec, extra_config or []), uplink)
        quick.bring_up(spec, wait=wait, merge=merge, owner=owner, timeout=timeout, hollow_config=hollow_config)


def down(
    name: Name = DEFAULT,
    every: Annotated[bool, typer.Option("--all", help="Every cluster of yours.")] = False,
) -> None:
    """Remove a cluster: its processes, namespaces, cgroups, files, and its context."""
    from kubeling.cluster import removal

    with plain_errors():
        for one in removal.names() if every else [name]:
            began = time.monotonic()
            removal.down(one)
            print(f" ✓ cluster {one!r} removed {time.monotonic() - began:.2f}s")


def clusters() -> None:
    """The clusters of this user."""
    from kubeling.cluster import state

    rows = [("NAME", "STATE", "NODES", "NETWORK", "SERVER", "SUPERVISOR")]
    with plain_errors():
        for root in state.clusters():
            found = state.load(root)
            if found is not None:
                pid = str(found.supervisor.pid) if found.supervisor and found.supervisor.alive() else "-"
                rows.append((root.name, _word(found), str(len(found.nodes)), found.spec.network, found.spec.server, pid))
    if len(rows) == 1:
        print(f"No clusters in {state.home()}: `kubeling up` makes one.")
    else:
        print_table(rows)


def _word(found: State) -> str:
    alive = found.supervisor is not None and found.supervisor.alive()
    if found.phase == "running":
        return "running" if alive else "dead"
    return found.phase


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell, the last one open."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def kubeconfig(
    name: Name = DEFAULT,
    internal: Annotated[bool, typer.Option(help="With the addresses that the nodes use.")] = False,
) -> None:
    """Print the administrator's kubeconfig."""
    from kubeling.cluster import state
    from kubeling.cluster.state import ClusterError

    with plain_errors():
        path = state.root_of(name) / "kubeconfig" / ("internal.conf" if internal else "admin.conf")
        if not path.exists():
            raise ClusterError(f"there is no cluster {name!r}: `kubeling list` shows which there are")
        print(path.read_text(), end="")


def register(app: typer.Typer) -> None:
    """Add the cluster verbs to `app`."""
    from kubeling.cli import image_verbs, node_verbs, status_verbs, store_verbs

    app.command(rich_help_panel="Clusters")(up)
    app.command(rich_help_panel="Clusters")(down)
    app.command("delete-cluster", hidden=True)(down)
    app.command("list", rich_help_panel="Clusters")(clusters)
    app.command(rich_help_panel="Clusters")(kubeconfig)
    status_verbs.register(app)
    node_verbs.register(app)
    image_verbs.register(app)
    store_verbs.register(app)


def route(argv: list[str]) -> list[str]:
    """`logs` means two things: what a pod writes, and what a daemon of ours does. Where the word names a log of the cluster's, it is the latter.

    A pod of such a name is still to be had as `logs pod/NAME`.
    """
    from kubeling.cli.status_verbs import matching

    name, wanted = os.environ.get("KUBELING_NAME", DEFAULT), ""
    words = iter(argv[1:])
    for word in words:
        flag, has_value, value = word.partition("=")
        if flag in _VALUED_LOG_FLAGS:
            value = value if has_value else next(words, "")
            name = value if flag == "--name" else name
        elif not word.startswith("-"):
            wanted = wanted or word
    return [DAEMON_LOGS, *argv[1:]] if wanted and matching(default_root(name) / "logs", wanted) else argv


def default_root(name: str) -> Path:
    """The directory of the cluster `name`."""
    from kubeling.cluster import state

    return state.root_of(name)
