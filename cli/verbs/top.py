"""`top`: what nodes and pods use, as metrics.k8s.io measures it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from kubeling.api.errors import ApiError
from kubeling.api.quantity import milli, units
from kubeling.api.quantity import total as added
from kubeling.api.resources import NODES, Resource
from kubeling.cli import flags
from kubeling.cli.session import CommandError, Obj, Session

NODE_METRICS = Resource("metrics.k8s.io", "v1beta1", "nodes", "NodeMetrics", namespaced=False)
POD_METRICS = Resource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", namespaced=True)

SortBy = Annotated[str, typer.Option("--sort-by", help="cpu or memory: the greatest first.")]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Without the first line.")]


async def top_node(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="[NAME]")] = "",
    selector: flags.Selector = "",
    sort_by: SortBy = "",
    no_headers: NoHeaders = False,
) -> int:
    """Show what nodes use: `kubeling top node`."""
    items = await _measured(session, NODE_METRICS, name, None, selector)
    if not items:
        raise CommandError("metrics not available yet")
    nodes = (await session.client.list(NODES)).get("items") or []
    room = {each["metadata"]["name"]: each["status"].get("allocatable") or {} for each in nodes}
    rows = [["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]]
    for each in sorted(items, key=_order(sort_by, lambda item: item["usage"])):
        usage, have = each["usage"], room.get(each["metadata"]["name"], {})
        row = [each["metadata"]["name"]]
        for resource, amount, show in (("cpu", milli, _cores), ("memory", units, _bytes)):
            used, total = amount(usage.get(resource, "0")), amount(have.get(resource, "0"))
            row += [show(used), f"{int(used / total * 100)}%" if total else "<unknown>"]
        rows.append(row)
    _print(rows, no_headers)
    return 0


async def top_pod(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="[NAME]")] = "",
    selector: flags.Selector = "",
    field_selector: flags.FieldSelector = "",
    all_namespaces: flags.AllNamespaces = False,
    containers: Annotated[bool, typer.Option("--containers", help="Each container by itself.")] = False,
    sort_by: SortBy = "",
    total: Annotated[bool, typer.Option("--sum", help="All together in a last line.")] = False,
    no_headers: NoHeaders = False,
) -> int:
    """Show what pods use: `kubeling top pod -A --sort-by=memory`."""
    namespace = None if all_namespaces else session.namespace
    items = await _measured(session, POD_METRICS, name, namespace, selector, field_selector)
    if not items:
        print("No resources found" + ("" if all_namespaces else f" in {namespace} namespace."), file=sys.stderr)
        return 0
    head = (["NAMESPACE"] if all_namespaces else []) + (["POD"] if containers else []) + ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    rows, sums = [head], [0, 0]
    for each in sorted(items, key=_order(sort_by, lambda item: _sum(item["containers"]))):
        meta = each["metadata"]
        place = [meta["namespace"]] if all_namespaces else []
        used = _sum(each["containers"])
        sums = [sums[0] + milli(used["cpu"]), sums[1] + units(used["memory"])]
        parts = (
            [([meta["name"], one["name"]], one["usage"]) for one in each["containers"]]
            if containers
            else [([meta["name"]], used)]
        )
        rows += [place + names + [_cores(milli(usage["cpu"])), _bytes(units(usage["memory"]))] for names, usage in parts]
    if total:
        blank = [""] * (len(head) - 3)
        rows += [[*blank, "", "________", "________"], [*blank, "", _cores(sums[0]), _bytes(sums[1])]]
    _print(rows, no_headers)
    return 0


async def _measured(
    session: Session, resource: Resource, name: str, namespace: str | None, selector: str, field_selector: str = ""
) -> list[Obj]:
    try:
        if name:
            return [await session.client.get(resource, name, namespace)]
        query: dict[str, Any] = {"label_selector": selector or None, "field_selector": field_selector or None}
        return list((await session.client.list(resource, namespace, **query)).get("items") or [])
    except ApiError as error:
        if error.code == 404 and not name:
            raise CommandError("Metrics API not available") from error
        raise


def _sum(containers: Iterable[Obj]) -> dict[str, str]:
    found = list(containers)
    return {kind: str(added(*(each["usage"].get(kind, "0") for each in found))) for kind in ("cpu", "memory")}


def _order(sort_by: str, usage: Callable[[Obj], Obj]) -> Callable[[Obj], Any]:
    if sort_by not in ("", "cpu", "memory"):
        raise CommandError("--sort-by accepts only cpu or memory")

    def key(item: Obj) -> Any:
        name = (item["metadata"].get("namespace", ""), item["metadata"]["name"])
        return (-milli(usage(item).get(sort_by, "0")), *name) if sort_by else name

    return key


def _cores(amount: int) -> str:
    return f"{amount}m"


def _bytes(amount: int) -> str:
    return f"{amount // (1024 * 1024)}Mi"


def _print(rows: list[list[str]], no_headers: bool) -> None:
    widths = [max(map(len, column)) + 3 for column in zip(*rows, strict=True)]
    for row in rows[1:] if no_headers else rows:
        print("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
