"""`node add|remove|stop|start|list`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from kubeling.cli.cluster_verbs import DEFAULT, Name, default_root, plain_errors, print_table

NodeName = Annotated[str, typer.Argument(metavar="NODE", help="A node, such as worker-1.")]


def add(name: Name = DEFAULT, count: Annotated[int, typer.Option(min=1, help="How many.")] = 1) -> None:
    """Add workers."""
    from kubeling.cluster import growth

    with plain_errors():
        for _ in range(count):
            began = time.monotonic()
            print(f" ✓ {growth.add_node(name)} added {time.monotonic() - began:.2f}s")


def remove(node: NodeName, name: Name = DEFAULT) -> None:
    """Remove a worker with its disk; its pods are made elsewhere."""
    from kubeling.cluster import growth

    began = time.monotonic()
    with plain_errors():
        growth.remove_node(name, node)
    print(f" ✓ {node} removed {time.monotonic() - began:.2f}s")


def stop(
    node: NodeName,
    name: Name = DEFAULT,
    orderly: Annotated[bool, typer.Option(help="Stop the daemons one after another, instead of pulling the plug.")] = False,
) -> None:
    """Pull the plug of a node: everything on it is dead at once. Its disk stays."""
    from kubeling.cluster.faults import Faults

    began = time.monotonic()
    with plain_errors():
        Faults(default_root(name)).stop_node(node, orderly=orderly)
    print(f" ✓ {node} stopped {time.monotonic() - began:.2f}s")


def start(node: NodeName, name: Name = DEFAULT) -> None:
    """Boot a stopped node again, from the same disk."""
    from kubeling.cluster.faults import Faults

    began = time.monotonic()
    with plain_errors():
        Faults(default_root(name)).start_node(node)
    print(f" ✓ {node} started {time.monotonic() - began:.2f}s")


def nodes(name: Name = DEFAULT) -> None:
    """The nodes of a cluster, running or not."""
    from kubeling.cluster.control import Control

    with plain_errors(), Control(default_root(name)) as control:
        found = control.call("nodes")["nodes"]
    rows: list[tuple[str, ...]] = [("NODE", "ROLE", "GROUP", "ADDRESS", "STATE", "BOOTS", "PID")]
    rows += [
        (n["name"], n["role"], n["group"] or "-", n["address"], n["state"], str(n["boots"]), str(n["pid"] or "-")) for n in found
    ]
    print_table(rows)


def register(app: typer.Typer) -> None:
    """Add `node` to `app`."""
    group = typer.Typer(help="The nodes of a cluster.", no_args_is_help=True)
    for verb, called in ((add, "add"), (remove, "remove"), (stop, "stop"), (start, "start"), (nodes, "list")):
        group.command(called)(verb)
    app.add_typer(group, name="node", rich_help_panel="Clusters")
