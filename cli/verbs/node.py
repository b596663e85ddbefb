"""Verbs for nodes: `cordon`, `uncordon`, `drain`, `taint`."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.api.meta import controller_of
from kubeling.api.pods import is_mirror, is_terminal
from kubeling.api.resources import NODES, PODS
from kubeling.api.times import parse_time
from kubeling.cli import flags
from kubeling.cli.report import DRY, Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import Chosen
from kubeling.daemon.clock import SystemClock

_EVICTION_RETRY = 5.0


Nodes = Annotated[list[str] | None, typer.Argument(metavar="NODE…")]


async def cordon(session: Session, names: Nodes = None, selector: flags.Selector = "", dry_run: flags.DryRun = "none") -> int:
    """Keep new pods away from nodes."""
    return await _set_unschedulable(session, await _chosen(session, "cordon", names, selector), True, dry_run)


async def uncordon(session: Session, names: Nodes = None, selector: flags.Selector = "", dry_run: flags.DryRun = "none") -> int:
    """Let nodes take new pods again."""
    return await _set_unschedulable(session, await _chosen(session, "uncordon", names, selector), False, dry_run)


async def _chosen(session: Session, verb: str, names: list[str] | None, selector: str) -> list[Obj]:
    """The nodes of these names, or with these labels. Raises CommandError for neither and both."""
    if bool(names) == bool(selector):
        if selector:
            raise CommandError(
                f"cannot specify both a node name and a --selector option\nSee 'kubeling {verb} -h' for help and examples"
            )
        raise CommandError(f"USAGE: {verb} NODE [flags]\nSee 'kubeling {verb} -h' for help and examples")
    if selector:
        return list((await session.client.list(NODES, None, label_selector=selector)).get("items") or [])
    return [await session.client.get(NODES, name.removeprefix("node/")) for name in names or []]


async def _set_unschedulable(session: Session, nodes: list[Obj], wanted: bool, dry_run: str) -> int:
    word, params = "cordoned" if wanted else "uncordoned", flags.write_params(dry_run, "")
    for node in nodes:
        name = node["metadata"]["name"]
        if bool((node.get("spec") or {}).get("unschedulable")) == wanted:
            print(f"node/{name} already {word}{DRY.get(dry_run, '')}")
            continue
        if dry_run != "client":
            body = {"spec": {"unschedulable": True if wanted else None}}
            await session.client.patch(NODES, name, body, patch_type="strategic", params=params)
        print(f"node/{name} {word}{DRY.get(dry_run, '')}")
    return 0


async def drain(
    session: Session,
    names: Nodes = None,
    selector: flags.Selector = "",
    pod_selector: Annotated[str, typer.Option("--pod-selector", help="Only pods with these labels.")] = "",
    ignore_daemonsets: Annotated[
        bool, typer.Option("--ignore-daemonsets", help="Leave pods of DaemonSets where they are.")
    ] = False,
    delete_emptydir_data: Annotated[
        bool, typer.Option("--delete-emptydir-data", help="Go on although pods lose what is in their emptyDirs.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Also pods that nothing will make anew.")] = False,
    grace_period: Annotated[int, typer.Option("--grace-period", help="Seconds; -1 is the pods' own.")] = -1,
    disable_eviction: Annotated[
        bool, typer.Option("--disable-eviction", help="Delete, without regard to disruption budgets.")
    ] = False,
    skip_wait: Annotated[
        int, typer.Option("--skip-wait-for-delete-timeout", help="Do not wait for pods that are being deleted for more seconds.")
    ] = 0,
    timeout: flags.Timeout = "0s",
    dry_run: flags.DryRun = "none",
) -> int:
    """Cordon nodes and move their pods away, as far as disruption budgets let them go."""
    nodes = await _chosen(session, "drain", names, selector)
    await _set_unschedulable(session, nodes, True, dry_run)
    limit = flags.duration(timeout)
    leaves = Leaves(ignore_daemonsets, delete_emptydir_data, force, pod_selector, skip_wait)
    async with asyncio.timeout(limit or None):
        for name in [each["metadata"]["name"] for each in nodes]:
            pods = await _to_evict(session, name, leaves)
            if dry_run != "none":
                for pod in pods:
                    place = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                    print(f"evicting pod {place}{DRY[dry_run]}")
            else:
                await asyncio.gather(*(_evict(session, pod, grace_period, disable_eviction) for pod in pods))
            print(f"node/{name} drained{DRY.get(dry_run, '')}")
    return 0


@dataclass(frozen=True, slots=True)
class Leaves:
    """Which pods leave a node, and at what cost."""

    ignore_daemonsets: bool
    delete_emptydir_data: bool
    force: bool
    selector: str
    skip_wait: int


async def _to_evict(session: Session, node: str, leaves: Leaves) -> list[Obj]:
    listed = await session.client.list(PODS, None, field_selector=f"spec.nodeName={node}", label_selector=leaves.selector or None)
    chosen: list[Obj] = []
    problems: dict[str, list[str]] = {}
    warnings: dict[str, list[str]] = {}
    for pod in listed.get("items") or []:
        where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        owner, ended = controller_of(pod), is_terminal(pod)
        if is_mirror(pod) or (leaves.skip_wait and _deleted_for(pod) > leaves.skip_wait):
            continue
        if owner is not None and owner.get("kind") == "DaemonSet" and not ended:
            if leaves.ignore_daemonsets:
                warnings.setdefault("ignoring DaemonSet-managed Pods", []).append(where)
            else:
                problems.setdefault("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)", []).append(where)
            continue
        if any("emptyDir" in volume for volume in (pod.get("spec") or {}).get("volumes") or []) and not ended:
            if not leaves.delete_emptydir_data:
                words = "cannot delete Pods with local storage (use --delete-emptydir-data to override)"
                problems.setdefault(words, []).append(where)
                continue
            warnings.setdefault("deleting Pods with local storage", []).append(where)
        if owner is None and not ended:
            if not leaves.force:
                problems.setdefault("cannot delete Pods that declare no controller (use --force to override)", []).append(where)
                continue
            warnings.setdefault("deleting Pods that declare no controller", []).append(where)
        chosen.append(pod)
    if problems:
        words = ", ".join(f"{why}: {', '.join(pods)}" for why, pods in problems.items())
        raise CommandError(f'unable to drain node "{node}" due to error: [{words}], continuing command...')
    if warnings:
        words = "; ".join(f"{what}: {', '.join(pods)}" for what, pods in warnings.items())
        print(f"Warning: {words}", file=sys.stderr)
    return chosen


def _deleted_for(pod: Obj) -> float:
    """For how many seconds the pod is being deleted."""
    stamp = pod["metadata"].get("deletionTimestamp")
    return (SystemClock().now() - parse_time(stamp)).total_seconds() if stamp else 0.0


async def _evict(session: Session, pod: Obj, grace_period: int, disable_eviction: bool) -> None:
    meta = pod["metadata"]
    name, namespace = meta["name"], meta["namespace"]
    grace = grace_period if grace_period >= 0 else None
    print(f"evicting pod {namespace}/{name}")
    while True:
        try:
            if disable_eviction:
                await session.client.delete(PODS, name, namespace, grace_period_seconds=grace)
            else:
                options = {"gracePeriodSeconds": grace} if grace is not None else {}
                body = {
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": {"name": name, "namespace": namespace},
                    "deleteOptions": options,
                }
                await session.client.create(PODS, body, namespace, name=name, subresource="eviction")
            break
        except ApiError as error:
            if error.code == 404:
                return
            if error.code != 429:
                raise
            print(f'error when evicting pods/"{name}" -n "{namespace}" (will retry after 5s): {error}', file=sys.stderr)
        await asyncio.sleep(_EVICTION_RETRY)
    from kubeling.cli.verbs.delete import until_gone

    await until_gone(session, PODS, name, namespace, meta["uid"], 7 * 24 * 3600)
    print(f"pod/{name} evicted")


async def taint(
    session: Session,
    words: Annotated[list[str], typer.Argument(metavar="node NAME… KEY[=VALUE]:EFFECT… KEY[:EFFECT]-…")],
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a taint of the same key and effect.")] = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-taint",
    validate: flags.Validate = "strict",
) -> int:
    """Set or take away taints: `kubeling taint node worker-1 gpu=yes:NoSchedule`."""
    changes = [word for word in words if ":" in word or "=" in word or word.endswith("-")]
    things = [word for word in words if word not in changes]
    if not things or not changes or not (len(things) > 1 or "/" in things[0] or selector or all_of_them):
        raise CommandError("one or more nodes and one or more taint changes are needed: taint node NAME KEY=VALUE:EFFECT")
    params = flags.write_params(dry_run, field_manager, validate)
    reporter = Reporter(form)
    for resource, node in await Chosen(things, selector=selector, all_of_them=all_of_them).objects(session):
        if resource.kind != "Node":
            raise CommandError(f"invalid resource type {resource.plural}, only node types are supported")
        name, taints = node["metadata"]["name"], list((node.get("spec") or {}).get("taints") or [])
        for change in changes:
            taints = _changed(taints, change, name, overwrite)
        body: Obj = {"spec": {"taints": taints or None}}
        if dry_run != "client":
            node = await session.client.patch(NODES, name, body, patch_type="strategic", params=params)
        reporter.done(NODES, node, "untainted" if all(change.endswith("-") for change in changes) else "tainted")
    return 0


def _changed(taints: list[Obj], change: str, node: str, overwrite: bool) -> list[Obj]:
    if change.endswith("-"):
        key, _, effect = change[:-1].partition(":")
        left = [each for each in taints if each["key"] != key.partition("=")[0] or (effect and each["effect"] != effect)]
        if len(left) == len(taints):
            raise CommandError(f'taint "{change[:-1]}" not found')
        return left
    body, _, effect = change.rpartition(":")
    if effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise CommandError(
            f"invalid taint effect: {effect}, unsupported taint effect; known: NoSchedule, PreferNoSchedule, NoExecute"
        )
    key, has_value, value = body.partition("=")
    same = [each for each in taints if (each["key"], each["effect"]) == (key, effect)]
    if same and not overwrite:
        raise CommandError(f"node {node} already has {key} taint(s) with same effect(s) and --overwrite is false")
    made = {"key": key, "effect": effect, **({"value": value} if has_value else {})}
    return [each for each in taints if each not in same] + [made]
