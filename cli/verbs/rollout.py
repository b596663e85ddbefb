"""`rollout`: how far it is, what was before, back, again, stop, go on."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from kubeling.api.labels import from_selector
from kubeling.api.owner import is_controlled_by
from kubeling.api.resources import CONTROLLER_REVISIONS, REPLICA_SETS, Resource
from kubeling.api.times import format_time
from kubeling.cli import flags
from kubeling.cli.dialect import write_yaml
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import Chosen
from kubeling.client.rest import Params
from kubeling.daemon.clock import SystemClock

REVISION = "deployment.kubernetes.io/revision"
CAUSE = "kubernetes.io/change-cause"
_KINDS = ("Deployment", "DaemonSet", "StatefulSet")
_HASH = "pod-template-hash"


def _chosen(words: list[str] | None, filename: list[str] | None, folder: str, recursive: bool, selector: str) -> Chosen:
    return Chosen(words or [], filename or [], folder, recursive, selector, all_of_them=True)


async def _each(session: Session, which: Chosen, doing: str) -> list[tuple[Resource, Obj]]:
    """The workloads that are meant. `doing` is what cannot be done to other kinds."""
    found = await which.objects(session)
    for resource, _ in found:
        if resource.kind not in _KINDS:
            raise CommandError(f"no {doing} has been implemented for {resource.kind}")
    return found


async def status(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    selector: flags.Selector = "",
    watch: Annotated[bool, typer.Option("-w", "--watch/--no-watch", help="Follow until it is done.")] = True,
    timeout: flags.Timeout = "0s",
    revision: Annotated[int, typer.Option("--revision", help="Fail where this is no longer the revision.")] = 0,
) -> int:
    """Follow a rollout until it is done (exit 0) or has failed (exit 1)."""
    which = _chosen(words, filename, folder, recursive, selector)
    for resource, obj in await _each(session, which, "status viewer"):
        if await _followed(session, resource, obj, watch, flags.duration(timeout), revision):
            return 1
    return 0


async def _followed(session: Session, resource: Resource, obj: Obj, watch: bool, limit: float, revision: int) -> int:
    meta = obj["metadata"]
    last = ""
    async with asyncio.timeout(limit or None):
        while True:
            version = obj["metadata"]["resourceVersion"]
            words_now, done, failed = progress(resource, obj, revision)
            if words_now != last:
                print(words_now, file=sys.stderr if failed else sys.stdout, flush=True)
                last = words_now
            if done or failed or not watch:
                return 1 if failed else 0
            stream = session.client.watch(
                resource,
                meta.get("namespace"),
                resource_version=version,
                field_selector=f"metadata.name={meta['name']}",
                timeout_seconds=300,
            )
            async for kind, newer in stream:
                if kind == "DELETED":
                    raise CommandError("object has been deleted")
                if kind != "BOOKMARK":
                    obj = newer
                    break


def progress(resource: Resource, obj: Obj, revision: int = 0) -> tuple[str, bool, bool]:
    """(what to say, whether the rollout is done, whether it has failed)."""
    name, spec, state = obj["metadata"]["name"], obj.get("spec") or {}, obj.get("status") or {}
    wanted = spec.get("replicas", 1)
    if resource.kind != "Deployment" and (spec.get("updateStrategy") or {}).get("type") != "RollingUpdate":
        return "error: rollout status is only available for RollingUpdate strategy type", False, True
    if state.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return f"Waiting for {resource.kind.lower()} spec update to be observed...", False, False
    if resource.kind == "Deployment":
        return _deployment_progress(obj, name, wanted, state, revision)
    updated, available = state.get("updatedNumberScheduled", 0), state.get("numberAvailable", 0)
    if resource.kind == "DaemonSet":
        desired = state.get("desiredNumberScheduled", 0)
        if updated < desired:
            return (
                f'Waiting for daemon set "{name}" rollout to finish: {updated} out of {desired} new pods have been updated...',
                False,
                False,
            )
        if available < desired:
            return (
                f'Waiting for daemon set "{name}" rollout to finish: {available} of {desired} updated pods are available...',
                False,
                False,
            )
        return f'daemon set "{name}" successfully rolled out', True, False
    return _set_progress(wanted, state, (spec.get("updateStrategy") or {}).get("rollingUpdate"))


def _set_progress(wanted: int, state: Obj, rolling: Obj | None) -> tuple[str, bool, bool]:
    """Of a StatefulSet."""
    if state.get("readyReplicas", 0) < wanted:
        return f"Waiting for {wanted - state.get('readyReplicas', 0)} pods to be ready...", False, False
    updated, revision = state.get("updatedReplicas", 0), state.get("updateRevision")
    if rolling:
        due = wanted - rolling.get("partition", 0)
        if updated < due:
            words = f"Waiting for partitioned roll out to finish: {updated} out of {due} new pods have been updated..."
            return words, False, False
        return f"partitioned roll out complete: {updated} new pods have been updated...", True, False
    current = state.get("currentRevision")
    if revision != current:
        return f"waiting for statefulset rolling update to complete {updated} pods at revision {revision}...", False, False
    done = f"statefulset rolling update complete {state.get('currentReplicas', wanted)} pods at revision {current}..."
    return done, True, False


def _deployment_progress(obj: Obj, name: str, wanted: int, state: Obj, revision: int) -> tuple[str, bool, bool]:
    have = int((obj["metadata"].get("annotations") or {}).get(REVISION, 0))
    if revision and have != revision:
        return f"error: desired revision ({revision}) is different from the running revision ({have})", False, True
    condition: Obj = next((each for each in state.get("conditions") or [] if each["type"] == "Progressing"), {})
    if condition.get("reason") == "ProgressDeadlineExceeded":
        return f'error: deployment "{name}" exceeded its progress deadline', False, True
    updated, total, available = state.get("updatedReplicas", 0), state.get("replicas", 0), state.get("availableReplicas", 0)
    if updated < wanted:
        return (
            f'Waiting for deployment "{name}" rollout to finish: {updated} out of {wanted} new replicas have been updated...',
            False,
            False,
        )
    if total > updated:
        return (
            f'Waiting for deployment "{name}" rollout to finish: {total - updated} old replicas are pending termination...',
            False,
            False,
        )
    if available < updated:
        return (
            f'Waiting for deployment "{name}" rollout to finish: {available} of {updated} updated replicas are available...',
            False,
            False,
        )
    return f'deployment "{name}" successfully rolled out', True, False


async def _revisions(session: Session, resource: Resource, obj: Obj) -> dict[int, tuple[Obj, str]]:
    """Revision → (pod template, change cause)."""
    namespace = obj["metadata"].get("namespace")
    selector = str(from_selector(obj["spec"]["selector"]))
    found: dict[int, tuple[Obj, str]] = {}
    kind = REPLICA_SETS if resource.kind == "Deployment" else CONTROLLER_REVISIONS
    listed = await session.client.list(kind, namespace, label_selector=selector)
    for each in listed.get("items") or []:
        if not is_controlled_by(each, obj):
            continue
        annotations = each["metadata"].get("annotations") or {}
        if resource.kind == "Deployment":
            number, template = int(annotations.get(REVISION, 0)), each["spec"]["template"]
        else:
            number, template = int(each["revision"]), each["data"]["spec"]["template"]
        found[number] = (template, annotations.get(CAUSE, "<none>"))
    return dict(sorted(found.items()))


async def history(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    selector: flags.Selector = "",
    revision: Annotated[int, typer.Option("--revision", help="Show this one whole.")] = 0,
) -> int:
    """The revisions that there are to go back to."""
    which = _chosen(words, filename, folder, recursive, selector)
    for resource, obj in await _each(session, which, "history viewer"):
        await _show_history(session, resource, obj, revision)
    return 0


async def _show_history(session: Session, resource: Resource, obj: Obj, revision: int) -> None:
    revisions = await _revisions(session, resource, obj)
    title = f"{resource.qualified.partition('.')[0].removesuffix('s')}.{resource.group}/{obj['metadata']['name']}"
    if revision:
        if revision not in revisions:
            raise CommandError(f"unable to find the specified revision {revision}; there are: {', '.join(map(str, revisions))}")
        print(f"{title} with revision #{revision}")
        print(write_yaml({"template": revisions[revision][0]}), end="")
        return
    print(f"{title} ")
    print("REVISION  CHANGE-CAUSE")
    for number, (_, cause) in revisions.items():
        print(f"{number:<10}{cause}")
    print()


async def undo(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    selector: flags.Selector = "",
    to_revision: Annotated[int, typer.Option("--to-revision", help="0 is the one before.")] = 0,
    dry_run: flags.DryRun = "none",
    form: flags.Output = "",
) -> int:
    """Go back to an earlier revision."""
    which = _chosen(words, filename, folder, recursive, selector)
    params = flags.write_params(dry_run, "kubectl-rollout")
    reporter = Reporter(form, dry_run=dry_run)
    for resource, obj in await _each(session, which, "rollbacker"):
        await _undo(session, resource, obj, to_revision, None if dry_run == "client" else params, reporter)
    return 0


async def _undo(
    session: Session, resource: Resource, obj: Obj, to_revision: int, params: Params | None, reporter: Reporter
) -> None:
    """Without `params` nothing is sent."""
    if (obj.get("spec") or {}).get("paused"):
        raise CommandError(
            "you cannot rollback a paused deployment; resume it first with 'kubeling rollout resume' and try again"
        )
    revisions = await _revisions(session, resource, obj)
    if len(revisions) < 2 and not to_revision:
        name = obj["metadata"]["name"]
        raise CommandError(f'no rollout history found for {resource.kind.lower()} "{name}"')
    number = to_revision or sorted(revisions)[-2]
    if number not in revisions:
        raise CommandError(f"unable to find specified revision {number} in history")
    template = revisions[number][0]
    labels = {key: value for key, value in ((template.get("metadata") or {}).get("labels") or {}).items() if key != _HASH}
    wanted = {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}}
    if wanted == _comparable(obj["spec"]["template"]):
        reporter.done(resource, obj, f"skipped rollback (current template already matches revision {number})")
        return
    patch: list[Any] = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": obj["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/spec/template", "value": wanted},
    ]
    meta = obj["metadata"]
    if params is not None:
        namespace = meta.get("namespace")
        obj = await session.client.patch(resource, meta["name"], patch, namespace, patch_type="json", params=params)
    reporter.done(resource, obj, "rolled back")


def _comparable(template: Obj) -> Obj:
    return {
        **template,
        "metadata": {**(template.get("metadata") or {}), "labels": (template.get("metadata") or {}).get("labels") or {}},
    }


@dataclass(frozen=True, slots=True)
class _Change:
    """One of the verbs that write the same to each workload. `refusal` says what is wrong with one that is paused, or is not."""

    done: str
    doing: str
    kinds: tuple[str, ...]
    spec: Obj
    refused_when: bool
    refusal: str

    async def each(self, session: Session, which: Chosen, reporter: Reporter, manager: str) -> int:
        for resource, obj in await which.objects(session):
            meta = obj["metadata"]
            whose = f'{resource.qualified} "{meta["name"]}"'
            if resource.kind not in self.kinds:
                raise CommandError(f"{whose} {self.doing} is not supported")
            if bool((obj.get("spec") or {}).get("paused")) is self.refused_when:
                raise CommandError(f"{whose} {self.refusal}")
            made = await session.client.patch(
                resource, meta["name"], {"spec": self.spec}, meta.get("namespace"), patch_type="strategic", field_manager=manager
            )
            reporter.done(resource, made, self.done)
        return 0


async def restart(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    selector: flags.Selector = "",
    form: flags.Output = "",
    field_manager: flags.FieldManager = "kubectl-rollout",
) -> int:
    """Replace all pods by new ones, as an update would."""
    now = format_time(SystemClock().now())
    template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}
    refusal = "can't restart paused deployment (run rollout resume first)"
    change = _Change("restarted", "restarting", _KINDS, {"template": template}, True, refusal)
    which = _chosen(words, filename, folder, recursive, selector)
    return await change.each(session, which, Reporter(form), field_manager)


async def pause(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    selector: flags.Selector = "",
    form: flags.Output = "",
    field_manager: flags.FieldManager = "kubectl-rollout",
) -> int:
    """Stop rolling changes of a Deployment out."""
    change = _Change("paused", "pausing", ("Deployment",), {"paused": True}, True, "is already paused")
    which = _chosen(words, filename, folder, recursive, selector)
    return await change.each(session, which, Reporter(form), field_manager)


async def resume(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    selector: flags.Selector = "",
    form: flags.Output = "",
    field_manager: flags.FieldManager = "kubectl-rollout",
) -> int:
    """Go on after `pause`."""
    change = _Change("resumed", "resuming", ("Deployment",), {"paused": None}, False, "is not paused")
    which = _chosen(words, filename, folder, recursive, selector)
    return await change.each(session, which, Reporter(form), field_manager)
