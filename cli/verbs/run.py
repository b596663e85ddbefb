"""`run` and `expose`: one pod from an image, and a Service for what is there."""

from __future__ import annotations

from typing import Annotated

import typer

from kubeling.api.resources import PODS, SERVICES, Resource
from kubeling.cli import flags
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import chosen, targets_of


async def run(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="NAME [-- ARG…]")] = None,
    image: Annotated[str, typer.Option("--image", help="What to run.")] = "",
    command: Annotated[bool, typer.Option("--command", help="What follows -- is the command, not its arguments.")] = False,
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE; may be repeated.")] = None,
    labels: Annotated[str, typer.Option("--labels", "-l", help="KEY=VALUE,…; run=NAME by default.")] = "",
    port: Annotated[int, typer.Option("--port", help="The port that the container serves.")] = 0,
    restart: Annotated[str, typer.Option("--restart", help="Always, OnFailure or Never.")] = "Always",
    image_pull_policy: Annotated[str, typer.Option("--image-pull-policy", help="Always, IfNotPresent or Never.")] = "",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-run",
) -> int:
    """Make one pod: `kubeling run web --image=nginx --port=80`."""
    if not image:
        raise CommandError('required flag(s) "image" not set')
    before, _, arguments = flags.split_at_dashes(words)
    if not before:
        raise CommandError("NAME is required for run")
    if restart not in ("Always", "OnFailure", "Never"):
        raise CommandError(f"invalid restart policy: {restart}")
    name, arguments = before[0], [*before[1:], *arguments]
    container: Obj = {"name": name, "image": image, "resources": {}}
    if arguments:
        container["command" if command else "args"] = arguments
    if env:
        container["env"] = [dict(zip(("name", "value"), flags.pair(each), strict=True)) for each in env]
    if port:
        container["ports"] = [{"containerPort": port}]
    if image_pull_policy:
        container["imagePullPolicy"] = image_pull_policy
    pod: Obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": flags.pairs(labels.split(",")) if labels else {"run": name}, "name": name},
        "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart},
        "status": {},
    }
    params = flags.write_params(dry_run, field_manager)
    if dry_run == "client" and session.namespace_given:
        pod["metadata"]["namespace"] = session.namespace
    made = pod if dry_run == "client" else await session.client.create(PODS, pod, session.namespace, params=params)
    Reporter(form, dry_run=dry_run).done(PODS, made, "created")
    return 0


async def expose(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    port: Annotated[str, typer.Option("--port", help="The Service's ports; those of the object by default.")] = "",
    target_port: Annotated[str, typer.Option("--target-port", help="The pods' port, by number or name.")] = "",
    protocol: Annotated[str, typer.Option("--protocol", help="TCP, UDP or SCTP.")] = "TCP",
    kind: Annotated[str, typer.Option("--type", help="ClusterIP, NodePort or LoadBalancer.")] = "",
    cluster_ip: Annotated[str, typer.Option("--cluster-ip", help="None makes it headless.")] = "",
    name: Annotated[str, typer.Option("--name", help="The Service's name; the object's by default.")] = "",
    selector: Annotated[str, typer.Option("--selector", help="KEY=VALUE,…; the object's by default.")] = "",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-expose",
) -> int:
    """Put a Service before pods: `kubeling expose deployment web --port=80 --target-port=8080`."""
    params = flags.write_params(dry_run, field_manager)
    reporter = Reporter(form, dry_run=dry_run)
    for resource, obj in await chosen(session, await targets_of(session, words or [], filenames=filename or [], need_names=True)):
        ports = [int(each) for each in port.split(",")] if port else _ports_of(resource, obj)
        if not ports:
            raise CommandError(
                "couldn't find port via --port flag or introspection\nSee 'kubeling expose -h' for help and examples"
            )
        spec: Obj = {
            "ports": [
                {
                    **({"name": f"port-{at}"} if len(ports) > 1 else {}),
                    "port": each,
                    "protocol": protocol,
                    "targetPort": int(target_port) if target_port.isdigit() else target_port or each,
                }
                for at, each in enumerate(ports, 1)
            ],
            "selector": flags.pairs(selector.split(",")) if selector else _selector_of(resource, obj),
        }
        if kind:
            spec["type"] = kind
        if cluster_ip:
            spec["clusterIP"] = cluster_ip
        meta: Obj = {"name": name or obj["metadata"]["name"]}
        if obj["metadata"].get("labels"):
            meta["labels"] = obj["metadata"]["labels"]
        if dry_run == "client" and session.namespace_given:
            meta["namespace"] = session.namespace
        service: Obj = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec, "status": {"loadBalancer": {}}}
        namespace = obj["metadata"].get("namespace")
        made = service if dry_run == "client" else await session.client.create(SERVICES, service, namespace, params=params)
        reporter.done(SERVICES, made, "exposed")
    return 0


def _selector_of(resource: Resource, obj: Obj) -> dict[str, str]:
    spec = obj.get("spec") or {}
    if resource.kind == "Pod":
        found = obj["metadata"].get("labels")
        if not found:
            raise CommandError(
                "couldn't retrieve selectors via --selector flag or introspection: the pod has no labels and cannot be exposed"
            )
    elif resource.kind in ("Deployment", "ReplicaSet"):
        if (spec.get("selector") or {}).get("matchExpressions"):
            raise CommandError("couldn't retrieve selectors via --selector flag or introspection: couldn't convert expressions")
        found = (spec.get("selector") or {}).get("matchLabels")
    elif resource.kind in ("Service", "ReplicationController"):
        found = spec.get("selector")
    else:
        raise CommandError(f"cannot expose a {resource.kind}")
    if not found:
        raise CommandError("couldn't retrieve selectors via --selector flag or introspection: the object selects nothing")
    return dict(found)


def _ports_of(resource: Resource, obj: Obj) -> list[int]:
    spec = obj.get("spec") or {}
    if resource.kind == "Service":
        return [int(each["port"]) for each in spec.get("ports") or []]
    pod = spec if resource.kind == "Pod" else (spec.get("template") or {}).get("spec") or {}
    return [int(each["containerPort"]) for container in pod.get("containers") or [] for each in container.get("ports") or []]
