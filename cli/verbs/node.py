"""Verbs for nodes: `cordon`, `uncordon`, `drain`, `taint`."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.api.meta import controller_of
from kubeling.api.pods import is_mirror, is_terminal
from kubeling.api.resources import NODES, PODS
from kubeling.cli import flags
from kubeling.cli.session import CommandError, Obj, Session

_EVICTION_RETRY = 5.0


async def cordon(session: Session, names: Annotated[list[str], typer.Argument(metavar="NODE…")]) -> int:
    """Keep new pods away from nodes."""
    return await _set_unschedulable(session, names, True)


async def uncordon(session: Session, names: Annotated[list[str], typer.Argument(metavar="NODE…")]) -> int:
    """Let nodes take new pods again."""
    return await _set_unschedulable(session, names, False)


async def _set_unschedulable(session: Session, names: list[str], wanted: bool) -> int:
    word = "cordoned" if wanted else "uncordoned"
    for name in names:
        name = name.removeprefix("node/")
        node = await session.client.get(NODES, name)
        if bool((node.get("spec") or {}).get("unschedulable")) == wanted:
            print(f"node/{name} already {word}")
            continue
        await session.client.patch(NODES, name, {"spec": {"unschedulable": True if wanted else None}}, patch_type="strategic")
        print(f"node/{name} {word}")
    return 0


async def drain(
    session: Session,
    names: Annotated[list[str], typer.Argument(metavar="NODE…")],
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
    timeout: flags.Timeout = "0s",
) -> int:
    """Cordon nodes and move their pods away, as far as disruption budgets let them go."""
    await _set_unschedulable(session, names, True)
    limit = flags.duration(timeout)
    async with asyncio.timeout(limit or None):
        for name in [each.removeprefix("node/") for each in names]:
            pods = await _to_evict(session, name, ignore_daemonsets, delete_emptydir_data, force)
            await asyncio.gather(*(_evict(session, pod, grace_period, disable_eviction) for pod in pods))
            print(f"node/{name} drained")
    return 0


async def _to_evict(session: Session, node: str, ignore_daemonsets: bool, delete_emptydir_data: bool, force: bool) -> list[Obj]:
    listed = await session.client.list(PODS, None, field_selector=f"spec.nodeName={node}")
    chosen: list[Obj] = []
    problems: dict[str, list[str]] = {}
    skipped: list[str] = []
    for pod in listed.get("items") or []:
        where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        owner = controller_of(pod)
        if is_mirror(pod):
            continue
        if owner is not None and owner.get("kind") == "DaemonSet" and not is_terminal(pod):
            if ignore_daemonsets:
                skipped.append(where)
            else:
                problems.setdefault("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)", []).append(where)
            continue
        if (
            any("emptyDir" in volume for volume in (pod.get("spec") or {}).get("volumes") or [])
            and not delete_emptydir_data
            and not is_terminal(pod)
        ):
            problems.setdefault("Pods with local storage (use --delete-emptydir-data to override)", []).append(where)
            continue
        if owner is None and not force and not is_terminal(pod):
            problems.setdefault("Pods that declare no controller (use --force to override)", []).append(where)
            continue
        chosen.append(pod)
    if problems:
        words = ", ".join(f"cannot delete {why}: {', '.join(pods)}" for why, pods in problems.items())
        raise CommandError(f'unable to drain node "{node}" due to error: [{words}], continuing command...')
    if skipped:
        print(f"Warning: ignoring DaemonSet-managed Pods: {', '.join(skipped)}", file=sys.stderr)
    return chosen


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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a taint of the same key and effect.")] = False,
) -> int:
    """Set or take away taints: `kubeling taint node worker-1 gpu=yes:NoSchedule`."""
    names = [
        word.removeprefix("node/")
        for word in words
        if ":" not in word and "=" not in word and not word.endswith("-") and word not in ("node", "nodes", "no")
    ]
    changes = [word for word in words if ":" in word or "=" in word or word.endswith("-")]
    if not names or not changes:
        raise CommandError("one or more nodes and one or more taint changes are needed: taint node NAME KEY=VALUE:EFFECT")
    for name in names:
        node = await session.client.get(NODES, name)
        taints = list((node.get("spec") or {}).get("taints") or [])
        for change in changes:
            taints = _changed(taints, change, name, overwrite)
        await session.client.patch(
            NODES, name, {"spec": {"taints": taints or None}}, patch_type="strategic", field_manager="kubectl-taint"
        )
        print(f"node/{name} {'untainted' if all(change.endswith('-') for change in changes) else 'tainted'}")
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
