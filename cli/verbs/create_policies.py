"""`create` of roles, bindings, quotas, disruption budgets and priority classes."""

from __future__ import annotations

from typing import Annotated

import typer

from kubeling.cli import flags
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.verbs.creating import Line, creator, made, name_of
from kubeling.cli.verbs.setting import subjects

_GROUP = "rbac.authorization.k8s.io"
Verbs = Annotated[list[str] | None, typer.Option("--verb", help="get,list …; may be repeated.")]
Kinds = Annotated[list[str] | None, typer.Option("--resource", help="pods,deployments.apps,pods/log …; may be repeated.")]
Names = Annotated[list[str] | None, typer.Option("--resource-name", help="Only objects of this name; may be repeated.")]
Users = Annotated[list[str] | None, typer.Option("--user", help="May be repeated.")]
Groups = Annotated[list[str] | None, typer.Option("--group", help="May be repeated.")]
Accounts = Annotated[list[str] | None, typer.Option("--serviceaccount", help="NAMESPACE:NAME; may be repeated.")]


def _words(values: list[str] | None) -> list[str]:
    return list(dict.fromkeys(word for each in values or [] for word in each.split(",") if word))


@creator
async def role(session: Session, words: Line = None, verbs: Verbs = None, kinds: Kinds = None, names: Names = None) -> Obj:
    """Make a Role: `kubeling create role reader --verb=get,list --resource=pods,deployments.apps`."""
    name = name_of(words)
    return made(f"{_GROUP}/v1", "Role", name, rules=await _rules(session, _words(verbs), _words(kinds), _words(names)))


@creator
async def clusterrole(
    session: Session,
    words: Line = None,
    verbs: Verbs = None,
    kinds: Kinds = None,
    names: Names = None,
    urls: Annotated[list[str] | None, typer.Option("--non-resource-url", help="Paths; may be repeated.")] = None,
    aggregation: Annotated[
        str, typer.Option("--aggregation-rule", help="KEY=VALUE,…: the roles with these labels, as one.")
    ] = "",
) -> Obj:
    """Make a ClusterRole: `kubeling create clusterrole nodes --verb=get --resource=nodes`."""
    name = name_of(words)
    if aggregation:
        if verbs or kinds or urls or names:
            raise CommandError("aggregation rule must be specified without verbs, resources, resource names and URLs")
        rule = {"clusterRoleSelectors": [{"matchLabels": flags.pairs(aggregation.split(","))}]}
        return made(f"{_GROUP}/v1", "ClusterRole", name, aggregationRule=rule)
    rules = await _rules(session, _words(verbs), _words(kinds), _words(names)) if kinds or not urls else []
    if urls:
        if not verbs:
            raise CommandError("at least one verb must be specified")
        rules.append({"verbs": _words(verbs), "nonResourceURLs": _words(urls)})
    return made(f"{_GROUP}/v1", "ClusterRole", name, rules=rules)


async def _rules(session: Session, verbs: list[str], kinds: list[str], names: list[str]) -> list[Obj]:
    """A rule for each API group."""
    if not verbs:
        raise CommandError("at least one verb must be specified")
    if not kinds:
        raise CommandError("at least one resource must be specified")
    groups: dict[str, list[str]] = {}
    for each in kinds:
        kind, _, subresource = each.partition("/")
        if kind == "*":
            groups.setdefault("*", []).append("*")
            continue
        resource = await session.resolve(kind)
        groups.setdefault(resource.group, []).append(f"{resource.plural}/{subresource}" if subresource else resource.plural)
    more = {"resourceNames": names} if names else {}
    return [{"verbs": verbs, "apiGroups": [group], "resources": found, **more} for group, found in sorted(groups.items())]


@creator
def rolebinding(
    words: Line = None,
    cluster_role: Annotated[str, typer.Option("--clusterrole", help="The ClusterRole that it gives.")] = "",
    role: Annotated[str, typer.Option("--role", help="The Role that it gives.")] = "",
    users: Users = None,
    groups: Groups = None,
    accounts: Accounts = None,
) -> Obj:
    """Make a RoleBinding: `kubeling create rolebinding eve --clusterrole=view --user=eve`."""
    if bool(cluster_role) == bool(role):
        raise CommandError("exactly one of clusterrole or role must be specified")
    kind = "ClusterRole" if cluster_role else "Role"
    return _binding("RoleBinding", name_of(words), kind, cluster_role or role, subjects(users, groups, accounts))


@creator
def clusterrolebinding(
    words: Line = None,
    cluster_role: Annotated[str, typer.Option("--clusterrole", help="The ClusterRole that it gives.")] = "",
    users: Users = None,
    groups: Groups = None,
    accounts: Accounts = None,
) -> Obj:
    """Make a ClusterRoleBinding: `kubeling create clusterrolebinding eve --clusterrole=view --user=eve`."""
    if not cluster_role:
        raise CommandError('required flag(s) "clusterrole" not set')
    return _binding("ClusterRoleBinding", name_of(words), "ClusterRole", cluster_role, subjects(users, groups, accounts))


def _binding(kind: str, name: str, role_kind: str, role_name: str, whom: list[Obj]) -> Obj:
    reference = {"apiGroup": _GROUP, "kind": role_kind, "name": role_name}
    return made(f"{_GROUP}/v1", kind, name, roleRef=reference, **({"subjects": whom} if whom else {}))


@creator
def quota(
    words: Line = None,
    hard: Annotated[str, typer.Option("--hard", help="Such as cpu=1,pods=10.")] = "",
    scopes: Annotated[str, typer.Option("--scopes", help="Such as BestEffort,NotTerminating.")] = "",
) -> Obj:
    """Make a ResourceQuota: `kubeling create quota small --hard=cpu=1,pods=10`."""
    spec: Obj = {"hard": flags.pairs(hard.split(","))} if hard else {}
    if scopes:
        spec["scopes"] = scopes.split(",")
    return made("v1", "ResourceQuota", name_of(words), spec=spec)


@creator
def poddisruptionbudget(
    words: Line = None,
    selector: Annotated[str, typer.Option("--selector", help="Which pods.")] = "",
    least: Annotated[str, typer.Option("--min-available", help="How many must be there, or a percentage.")] = "",
    most: Annotated[str, typer.Option("--max-unavailable", help="How many may be away, or a percentage.")] = "",
) -> Obj:
    """Make a PodDisruptionBudget: `kubeling create pdb web --selector=app=web --min-available=1`."""
    if not selector:
        raise CommandError("a selector must be specified")
    if bool(least) == bool(most):
        raise CommandError("one of min-available or max-unavailable must be specified" + (", not both" if least else ""))
    value: int | str = int(least or most) if (least or most).isdigit() else least or most
    spec = {"minAvailable" if least else "maxUnavailable": value, "selector": {"matchLabels": flags.pairs(selector.split(","))}}
    return made("policy/v1", "PodDisruptionBudget", name_of(words), spec=spec)


@creator
def priorityclass(
    words: Line = None,
    value: Annotated[int, typer.Option("--value", help="The higher, the more important.")] = 0,
    description: Annotated[str, typer.Option("--description")] = "",
    default: Annotated[bool, typer.Option("--global-default/--no-global-default", help="For pods that name none.")] = False,
    preemption: Annotated[
        str, typer.Option("--preemption-policy", help="PreemptLowerPriority or Never.")
    ] = "PreemptLowerPriority",
) -> Obj:
    """Make a PriorityClass: `kubeling create priorityclass high --value=1000`."""
    more = {**({"description": description} if description else {}), **({"globalDefault": True} if default else {})}
    return made("scheduling.k8s.io/v1", "PriorityClass", name_of(words), value=value, preemptionPolicy=preemption, **more)
