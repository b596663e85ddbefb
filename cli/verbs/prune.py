"""`apply --prune`: what was applied once, bears the labels, and is in the files no more, is deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: The kinds that kubectl prunes where none are named, and in its order.
_DEFAULT = (
    *(
        f"core/v1/{kind}"
        for kind in ("ConfigMap", "Endpoints", "PersistentVolumeClaim", "Pod", "ReplicationController", "Secret", "Service")
    ),
    "batch/v1/Job",
    "batch/v1/CronJob",
    "networking.k8s.io/v1/Ingress",
    *(f"apps/v1/{kind}" for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")),
    "core/v1/Namespace",
    "core/v1/PersistentVolume",
)


async def kinds_of(session: Session, allowed: Sequence[str]) -> list[Resource]:
    """The resources behind `core/v1/ConfigMap`, `apps/v1/Deployment` …; kubectl's own list where none are given. Raises CommandError."""
    served = await session.kinds()
    found = []
    for text in allowed or _DEFAULT:
        parts = text.split("/")
        if len(parts) != 3:
            raise CommandError(f"invalid GroupVersionKind format: {text}, please follow <group/version/kind>")
        group = "" if parts[0] == "core" else parts[0]
        matching = [each for each in served if (each.group, each.version, each.kind) == (group, parts[1], parts[2])]
        if not matching:
            raise CommandError(f'no matches for kind "{parts[2]}" in version "{f"{group}/" if group else ""}{parts[1]}"')
        found.append(matching[0])
    return found


async def prune(
    session: Session,
    kinds: Iterable[Resource],
    selector: str,
    namespaces: Iterable[str],
    kept: set[str],
    reporter: Reporter,
    dry_run: str,
) -> None:
    """Delete them. `kept` are the uids of what was just applied, `namespaces` where that was."""
    everywhere = sorted(namespaces)
    for resource in kinds:
        for namespace in everywhere if resource.namespaced else [None]:
            listed = await session.client.list(resource, namespace, label_selector=selector or None)
            for obj in listed.get("items") or []:
                if obj["metadata"]["uid"] not in kept and _LAST_APPLIED in (obj["metadata"].get("annotations") or {}):
                    await delete(session, resource, obj, dry_run)
                    reporter.done(resource, obj, "pruned")


async def delete(session: Session, resource: Resource, obj: Obj, dry_run: str) -> None:
    """Delete what is in the files no more, if it is still there."""
    if dry_run == "client":
        return
    meta = obj["metadata"]
    options: Obj = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    if dry_run == "server":
        options["dryRun"] = ["All"]
    try:
        await session.client.request("DELETE", resource.path(meta.get("namespace"), meta["name"]), body=options)
    except ApiError as error:
        if error.code != 404:
            raise
