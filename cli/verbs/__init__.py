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
    "kustomize": ("kustomize", "show"),
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
    "debug": ("debug", "debug"),
    "cp": ("copy", "copy"),
    "port-forward": ("forward", "port_forward"),
    "proxy": ("proxy", "proxy"),
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
    "plugin": ("See which programs on the PATH are verbs.", "plugin", {"list": "list_plugins"}),
    "auth": ("What one may do.", "auth", {"can-i": "can_i", "whoami": "whoami", "reconcile": "reconcile:reconcile"}),
}
#: Second words of verbs that are verbs without one, too.
_BELOW = {"apply": {"view-last-applied": "last_applied:view", "set-last-applied": "last_applied:put"}}
_SERVICES = {name: f"create_workloads:{name}" for name in ("clusterip", "nodeport", "loadbalancer", "externalname")}
_SECRETS = {"generic": "create_data:generic", "tls": "create_data:tls", "docker-registry": "create_data:docker_registry"}
#: What `create` makes by name: kind → module and function, or those of its second word.
_KINDS: dict[str, str | dict[str, str]] = {
    **{kind: f"create_data:{kind}" for kind in ("namespace", "serviceaccount", "configmap", "token")},
    **{kind: f"create_workloads:{kind}" for kind in ("deployment", "job", "cronjob", "ingress")},
    **{
        kind: f"create_policies:{kind}"
        for kind in (
            "role",
            "clusterrole",
            "rolebinding",
            "clusterrolebinding",
            "quota",
            "poddisruptionbudget",
            "priorityclass",
        )
    },
    "secret": _SECRETS,
    "service": _SERVICES,
}
_SHORT = {
    "ns": "namespace",
    "sa": "serviceaccount",
    "cm": "configmap",
    "deploy": "deployment",
    "dep": "deployment",
    "cj": "cronjob",
    "ing": "ingress",
    "resourcequota": "quota",
    "pdb": "poddisruptionbudget",
    "pc": "priorityclass",
    "svc": "service",
}
#: Those whose line may end in `-- COMMAND ARG…`.
_DASHED = ("run", "exec", "debug")
NAMES = frozenset(_VERBS) | frozenset(_GROUPS)
#: Those for which :func:`kind_first` is to be asked.
WITH_KINDS = frozenset(("create", *_BELOW))


def kind_first(argv: list[str]) -> tuple[list[str], bool]:
    """`create` with the kind before the flags, and whether there is a kind: those are commands of their own. So are the second words of `apply`."""
    if argv[0] != "create":
        return argv, len(argv) > 1 and argv[1] in _BELOW[argv[0]]
    end = argv.index("--") if "--" in argv else len(argv)
    for at in range(1, end):
        kind = _SHORT.get(argv[at], argv[at])
        if kind in _KINDS and argv[at - 1] not in ("-f", "--filename", "-k", "-o", "-l"):
            below = _KINDS[kind]
            second = [word for word in argv[at + 1 :] if isinstance(below, dict) and word in below][:1]
            rest = argv[1:at] + argv[at + 1 :]
            for word in second:
                rest.remove(word)
            return ["create", kind, *second, *rest], True
    return argv, False


def command_of(words: list[str]) -> str:
    """The verb that a line of these words reaches, with as many of them as are its name; empty if there is none."""
    if not words or words[0] not in NAMES:
        return ""
    below: Any = _GROUPS[words[0]][2] if words[0] in _GROUPS else _KINDS if words[0] == "create" else {}
    name = words[:1]
    for word in words[1:]:
        if not isinstance(below, dict) or word not in below:
            break
        name.append(word)
        below = below[word]
    return " ".join(name)


def register(app: typer.Typer, only: str = "", *, kinds: bool = False) -> None:
    """Add the kubectl verbs to `app`: the one called `only`, or all where it is none of them; of `create` the kinds, if they are meant."""
    if kinds:
        if only == "create":
            _register_kinds(app)
        else:
            _register_group(app, only, "", "", _BELOW[only])
        return
    for name, (module, function) in _VERBS.items():
        if only not in NAMES or only == name:
            command = DashedCommand if name in _DASHED else KubectlCommand
            app.command(name, cls=command, rich_help_panel=PANEL)(verb(_load(module, function)))
    for name, (text, module, functions) in _GROUPS.items():
        if only not in NAMES or only == name:
            _register_group(app, name, text, module, functions)


def _register_group(app: typer.Typer, name: str, text: str, module: str, functions: dict[str, str]) -> None:
    group = typer.Typer(no_args_is_help=True, help=text)
    group.callback()(_nothing)
    for second, function in functions.items():
        group.command(second, cls=KubectlCommand)(verb(_load(module, function)))
    app.add_typer(group, name=name, rich_help_panel=PANEL)


def _register_kinds(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Make one object of a kind.")
    group.callback()(_nothing)
    for kind, target in _KINDS.items():
        if isinstance(target, str):
            group.command(kind, cls=DashedCommand)(verb(_load("", target)))
            continue
        below = typer.Typer(no_args_is_help=True, help=f"Make a {kind}.")
        below.callback()(_nothing)
        for second, function in target.items():
            below.command(second, cls=KubectlCommand)(verb(_load("", function)))
        group.add_typer(below, name=kind)
    app.add_typer(group, name="create", rich_help_panel=PANEL)


def _nothing() -> None:
    """A callback keeps typer from folding a group of one command into that command."""


def _load(module: str, function: str) -> Any:
    """`function` is of `module`, or names its own as `module:function`."""
    module, function = function.split(":") if ":" in function else (module, function)
    return getattr(import_module(f"{__name__}.{module}"), function)
