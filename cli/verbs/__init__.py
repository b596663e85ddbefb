"""The kubectl verbs: one module for what belongs together, each a coroutine function over a :class:`~kubeling.cli.session.Session`."""

from __future__ import annotations

import typer

from kubeling.cli.session import verb


def register(app: typer.Typer) -> None:
    """Add all kubectl verbs to `app`."""
    from kubeling.cli.verbs import apply, change, describe, discover, logs, node, read, rollout, wait, write

    panel = "kubectl verbs"

    def add(function: object, name: str, target: typer.Typer = app) -> None:
        target.command(name, rich_help_panel=panel)(verb(function))  # type: ignore[arg-type]

    add(read.get, "get")
    add(describe.describe, "describe")
    add(write.create, "create")
    add(apply.apply, "apply")
    add(write.replace, "replace")
    add(write.delete, "delete")
    add(change.edit, "edit")
    add(change.patch, "patch")
    add(change.label, "label")
    add(change.annotate, "annotate")
    add(change.scale, "scale")
    rollouts = typer.Typer(no_args_is_help=True, help="Manage the rollout of Deployments, DaemonSets and StatefulSets.")
    for name in ("status", "history", "undo", "restart", "pause", "resume"):
        rollouts.command(name)(verb(getattr(rollout, name)))
    app.add_typer(rollouts, name="rollout", rich_help_panel=panel)
    sets = typer.Typer(no_args_is_help=True, help="Set one thing of an object.")
    sets.command("image")(verb(change.set_image))
    app.add_typer(sets, name="set", rich_help_panel=panel)
    add(logs.logs, "logs")
    add(discover.explain, "explain")
    add(discover.api_resources, "api-resources")
    add(discover.api_versions, "api-versions")
    add(discover.version, "version")
    add(wait.wait, "wait")
    add(node.cordon, "cordon")
    add(node.uncordon, "uncordon")
    add(node.drain, "drain")
    add(node.taint, "taint")
