"""`describe`: objects for people, with what happened to them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kubeling.api.resources import EVENTS, Resource
from kubeling.cli import flags
from kubeling.cli.describing import nodes, others, pods, services, workloads
from kubeling.cli.describing.page import NONE, Page, age
from kubeling.cli.session import Obj, Session
from kubeling.cli.targets import Target, targets_of

_WITHOUT_EVENTS = ("Secret", "Namespace")


async def describe(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    selector: flags.Selector = "",
    all_namespaces: flags.AllNamespaces = False,
    show_events: Annotated[bool, typer.Option("--show-events/--no-show-events", help="What happened to it.")] = True,
) -> int:
    """Show objects for people: `kubeling describe pod web-1`. A name may be the beginning of several."""
    shown = 0
    for target in await targets_of(session, words or [], filenames=filename or [], everywhere=all_namespaces):
        for obj in await _objects(session, target, selector):
            sys.stdout.write("\n\n" if shown else "")
            page = Page()
            await _describe(page, session, target.resource, obj)
            if show_events and obj["kind"] not in _WITHOUT_EVENTS:
                await _events(page, session, obj)
            sys.stdout.write(page.render())
            sys.stdout.flush()
            shown += 1
    if not shown:
        where = "" if all_namespaces else f" in {session.namespace} namespace."
        print(f"No resources found{where}", file=sys.stderr)
    return 0


async def _objects(session: Session, target: Target, selector: str) -> list[Obj]:
    """The objects of a target: all, the one of that name, or those whose names begin with it."""
    identity = {"apiVersion": target.resource.group_version, "kind": target.resource.kind}
    listed = await session.client.list(target.resource, target.namespace, label_selector=selector or None)
    objects = [{**identity, **item} for item in listed.get("items") or []]
    if target.name is None:
        return objects
    exact = [obj for obj in objects if obj["metadata"]["name"] == target.name]
    found = exact or [obj for obj in objects if obj["metadata"]["name"].startswith(target.name)]
    # Nothing of the kind: the server says it best.
    return found or [await session.client.get(target.resource, target.name, target.namespace)]


async def _describe(page: Page, session: Session, resource: Resource, obj: Obj) -> None:
    match (resource.group, resource.kind):
        case ("", "Pod"):
            pods.pod(page, obj)
        case ("", "Node"):
            await nodes.node(page, session.client, obj)
        case ("", "Service"):
            await services.service(page, session.client, obj)
        case ("", "ConfigMap"):
            others.config_map(page, obj)
        case ("", "Secret"):
            others.secret(page, obj)
        case ("", "Namespace"):
            await others.namespace(page, session.client, obj)
        case ("", "ServiceAccount"):
            others.service_account(page, obj)
        case ("apps", "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet") | ("batch", "Job"):
            await workloads.workload(page, session.client, obj)
        case _:
            others.anything(page, obj)


async def _events(page: Page, session: Session, obj: Obj) -> None:
    meta = obj["metadata"]
    fields = f"involvedObject.name={meta['name']},involvedObject.kind={obj['kind']}"
    if obj["kind"] != "Node":  # The events of nodes carry their names for uids.
        fields += f",involvedObject.uid={meta.get('uid', '')}"
    listed = (await session.client.list(EVENTS, meta.get("namespace"), field_selector=fields)).get("items") or []
    if not listed:
        page.field("Events", NONE)
        return
    page.line("Events:")
    page.line("Type\tReason\tAge\tFrom\tMessage", 1)
    page.line("----\t------\t----\t----\t-------", 1)
    for event in sorted(listed, key=_when):
        count = event.get("count") or (event.get("series") or {}).get("count") or 1
        since = age(_when(event))
        if count > 1:
            since += f" (x{count} over {age(event.get('firstTimestamp') or event.get('eventTime'))})"
        source = event.get("reportingComponent") or (event.get("source") or {}).get("component") or ""
        message = (event.get("message") or "").strip()
        page.line(f"{event.get('type', '')}\t{event.get('reason', '')}\t{since}\t{source}\t{message}", 1)


def _when(event: Obj) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(event.get("lastTimestamp") or series or event.get("eventTime") or "")
