"""`explain-scheduling`: why a pod is on its node, or on none: the table of nodes and plugins, as the scheduler kept it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from kubeling.api.resources import PODS
from kubeling.cli import output
from kubeling.cli.session import CommandError, Session

_MARKS = {True: "✓", False: "✗"}


async def explain_scheduling(
    session: Session,
    pod: Annotated[str, typer.Argument(metavar="POD", help="`web-1` or `pod/web-1`.")],
    node: Annotated[str, typer.Option("--node", help="Only this node.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="At most so many nodes, the best first.")] = 30,
    form: Annotated[str, typer.Option("-o", "--output", help="`json`, or a table where it is left out.")] = "",
) -> int:
    """Show which plugin rejected which node, and how the others were scored: `kubeling explain-scheduling pod/web-1`."""
    kind, _, name = pod.rpartition("/")
    if kind not in ("", "pod", "pods", "po"):
        raise CommandError(f"only pods are scheduled, not {kind}")
    path = f"{PODS.path(session.namespace, name)}/scheduling"
    params: dict[str, str | int | bool | None] = {"limit": limit, "node": node or None}
    found = await session.client.request("GET", path, params=params)
    print(json.dumps(found, indent=2) if form == "json" else _text(found))
    return 0


def _text(found: dict[str, Any]) -> str:
    meta = found["metadata"]
    when = "decided at" if found["recorded"] else "nothing is recorded; as it would be decided at"
    head = [
        f"Pod {meta['namespace']}/{meta['name']}, scheduler {found['schedulerName']}, {when} {found['time']}",
        f"Node: {found['node'] or '<none>'}   ({found['feasible']} of {found['total']} nodes feasible)",
    ]
    if found["message"]:
        head.append(f"Message: {found['message']}")
    plugins = list(found["weights"])
    rows = [["NODE", "FITS", "TOTAL", *(f"{name}x{found['weights'][name]}" for name in plugins), "REJECTED BY", "REASONS"]]
    for each in found["nodes"]:
        fits = each["feasible"]
        scores = [str(each["scores"].get(name, "-")) for name in plugins] if fits else ["-"] * len(plugins)
        mark = _MARKS[fits] + (" chosen" if each.get("chosen") else "")
        total = str(each["total"]) if fits and each["scores"] else "-"
        why = [each.get("rejectedBy") or "-", "; ".join(each.get("reasons") or ()) or "-"]
        rows.append([each["node"], mark, total, *scores, *why])
    hidden = found["total"] - len(found["nodes"])
    tail = [f"… and {hidden} more nodes (--limit)"] if hidden > 0 else []
    return "\n".join([*head, "", output.align(rows).rstrip("\n"), *tail])
