"""The kubectl verbs: one module for what belongs together, each a coroutine function over a :class:`~kubeling.cli.session.Session`.

A module is imported when one of its verbs is asked for, so that a short command starts fast; help and misspelt verbs import them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer

from kubeling.cli.command import DashedCommand, KubectlCommand, verb

PANEL = "kubectl verbs"

#: Verb → (module, function), in the order of the help.
_VERBS: dict[str, tuple[str, str]] = {
    "get": ("read", "get"),
    "describe": ("describe", "describe"),
    "create": ("write", "create"),
    "apply": ("apply", "apply"),
    "replace": ("write", "replace"),
    "delete": ("delete", "delete"),
    "diff": ("diff", "diff"),
    "edit": ("edit", "edit"),
    "patch": ("change", "patch"),
    "label": ("mark", "label"),
    "annotate": ("mark", "annotate"),
    "scale": ("change", "scale"),
    "autoscale": ("autoscale", "autoscale"),
    "run": ("run", "run"),
    "expose": ("run", "expose"),
    "exec": ("execute", "execute"),
    "attach": ("execute", "attach"),
    "cp": ("copy", "copy"),
    "port-forward": ("forward", "port_forward"),
    "logs": ("logs", "logs"),
    "events": ("events", "events"),
    "wait": ("wait", "wait"),
    "explain": ("explain", "explain"),
    "explain-scheduling": ("explain_scheduling", "explain_scheduling"),
    "api-resources": ("discover", "api_resources"),
    "api-versions": ("discover", "api_versions"),
    "version": ("discover", "version"),
    "cluster-info": ("discover", "cluster_info"),
    "cordon": ("node", "cordon"),
    "uncordon": ("node", "uncordon"),
    "drain": ("node", "drain"),
    "taint": ("node", "taint"),
}
_CONFIG = (
    "view",
    "get_contexts",
    "get_clusters",
    "get_users",
    "current_context",
    "use_context",
    "set_context",
    "set_cluster",
    "set_credentials",
    "delete_context",
    "delete_cluster",
    "delete_user",
    "rename_context",
)
#: Verbs of two words: the first → (its help, module, second → function).
_GROUPS: dict[str, tuple[str, str, dict[str, str]]] = {
    "rollout": (
        "Manage the rollout of Deployments, DaemonSets and StatefulSets.",
        "rollout",
        {name: name for name in ("status", "history", "undo", "restart", "pause", "resume")},
    ),
    "set": (
        "Set one thing of objects.",
        "setting",
        {
            **{name: name for name in ("image", "resources", "serviceaccount", "subject", "selector")},
            "sa": "serviceaccount",
            "env": "environment:env",
        },
    ),
    "top": (
        "What nodes and pods use.",
        "top",
        {"node": "top_node", "nodes": "top_node", "no": "top_node", "pod": "top_pod", "pods": "top_pod", "po": "top_pod"},
    ),
    "config": (
        "See and change the kubeconfig.",
        "config",
        {name.replace("_", "-"): name for name in _CONFIG} | {"set": "set_property", "unset": "unset_property"},
    ),
    "certificate": ("Decide on requests for certificates.", "certificate", {"approve": "approve", "deny": "deny"}),
    "auth": ("What one may do.", "auth", {"can-i": "can_i", "whoami": "whoami"}),
}
#: Those whose line may end in `-- COMMAND ARG…`.
_DASHED = ("create", "run", "exec")
NAMES = frozenset(_VERBS) | frozenset(_GROUPS)


def register(app: typer.Typer, only: str = "") -> None:
    """Add the kubectl verbs to `app`: the one called `only`, or all where it is none of them."""
    for name, (module, function) in _VERBS.items():
        if only not in NAMES or only == name:
            command = DashedCommand if name in _DASHED else KubectlCommand
            app.command(name, cls=command, rich_help_panel=PANEL)(verb(_load(module, function)))
    for name, (text, module, functions) in _GROUPS.items():
        if only not in NAMES or only == name:
            group = typer.Typer(no_args_is_help=True, help=text)
            group.callback()(_nothing)
            for second, function in functions.items():
                group.command(second, cls=KubectlCommand)(verb(_load(module, function)))
            app.add_typer(group, name=name, rich_help_panel=PANEL)


def _nothing() -> None:
    """A callback keeps typer from folding a group of one command into that command."""


def _load(module: str, function: str) -> Any:
    """`function` is of `module`, or names its own as `module:function`."""
    module, function = function.split(":") if ":" in function else (module, function)
    return getattr(import_module(f"{__name__}.{module}"), function)
