"""`run` and `expose`: one pod from an image, and a Service for what is there."""

from __future__ import annotations

import sys
from typing import Annotated

import orjson
import typer

from kubeling.api.resources import PODS, SERVICES, Resource
from kubeling.cli import flags
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import chosen, targets_of
from kubeling.cli.verbs.execute import attach_or_logs
from kubeling.cli.verbs.wait import until


async def run(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="NAME [-- ARG…]")] = None,
    image: Annotated[str, typer.Option("--image", help="What to run.")] = "",
    command: Annotated[bool, typer.Option("--command", help="What follows -- is the command, not its arguments.")] = False,
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE; may be repeated.")] = None,
    labels: Annotated[str, typer.Option("--labels", "-l", help="KEY=VALUE,…; run=NAME by default.")] = "",
    annotations: Annotated[list[str] | None, typer.Option("--annotations", help="KEY=VALUE; may be repeated.")] = None,
    port: Annotated[int, typer.Option("--port", help="The port that the container serves.")] = 0,
    expose_it: Annotated[bool, typer.Option("--expose", help="A Service before it, too.")] = False,
    restart: Annotated[str, typer.Option("--restart", help="Always, OnFailure or Never.")] = "Always",
    image_pull_policy: Annotated[str, typer.Option("--image-pull-policy", help="Always, IfNotPresent or Never.")] = "",
    privileged: Annotated[bool, typer.Option("--privileged", help="With all rights on the node.")] = False,
    overrides: Annotated[str, typer.Option("--overrides", help="JSON that is put over the pod.")] = "",
    override_type: Annotated[str, typer.Option("--override-type", help="merge, strategic or json.")] = "merge",
    stdin: Annotated[bool, typer.Option("-i", "--stdin", help="Pass our standard input on.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="With a terminal.")] = False,
    attach: Annotated[bool | None, typer.Option("--attach/--no-attach", help="Connect with it; so it is with -i.")] = None,
    leave_stdin_open: Annotated[bool, typer.Option("--leave-stdin-open", help="The pod reads on when we have gone.")] = False,
    remove: Annotated[bool, typer.Option("--rm", help="Delete the pod when we have seen it end.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say less.")] = False,
    timeout: Annotated[str, typer.Option("--pod-running-timeout", help="How long to wait until it runs.")] = "1m",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-run",
) -> int:
    """Make one pod: `kubeling run web --image=nginx --port=80`, `kubeling run -it --rm try --image=busybox -- sh`."""
    if not image:
        raise CommandError('required flag(s) "image" not set')
    before, _, arguments = flags.split_at_dashes(words)
    if not before:
        raise CommandError("NAME is required for run")
    if restart not in ("Always", "OnFailure", "Never"):
        raise CommandError(f"invalid restart policy: {restart}")
    attach = stdin if attach is None else attach
    if remove and not attach:
        raise CommandError("--rm should only be used for attached containers\nSee 'kubeling run -h' for help and examples")
    if tty and not stdin:
        raise CommandError(
            "-i/--stdin is required for containers with -t/--tty=true\nSee 'kubeling run -h' for help and examples"
        )
    if attach and dry_run != "none":
        raise CommandError(
            "--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin, or --tty)"
        )
    if expose_it and not port:
        raise CommandError("--port must be set when exposing a service\nSee 'kubeling run -h' for help and examples")
    name, arguments = before[0], [*before[1:], *arguments]
    container: Obj = {"name": name, "image": image, "resources": {}}
    if arguments:
        container["command" if command else "args"] = arguments
    if env:
        container["env"] = [{"name": key, "value": value} for key, value in flags.pairs(env).items()]
    if port:
        container["ports"] = [{"containerPort": port}]
    if image_pull_policy:
        container["imagePullPolicy"] = image_pull_policy
    if privileged:
        container["securityContext"] = {"privileged": True}
    if stdin:
        container |= {"stdin": True, "stdinOnce": not leave_stdin_open}
    if tty:
        container["tty"] = True
    meta: Obj = {"labels": flags.pairs(labels.split(",")) if labels else {"run": name}, "name": name}
    if annotations:
        meta["annotations"] = flags.pairs(annotations)
    if dry_run == "client" and session.namespace_given:
        meta["namespace"] = session.namespace
    pod: Obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart},
        "status": {},
    }
    if overrides:
        pod = _overridden(pod, overrides, override_type)
    params = flags.write_params(dry_run, field_manager)
    reporter = Reporter(form, dry_run=dry_run)
    made = pod if dry_run == "client" else await session.client.create(PODS, pod, session.namespace, params=params)
    if attach:
        return await _see_it_end(session, made, name, stdin, tty, quiet, remove, flags.duration(timeout))
    if expose_it:
        wanted: Obj = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}], "selector": pod["metadata"]["labels"]},
        }
        if dry_run != "client":
            wanted = await session.client.create(SERVICES, wanted, session.namespace, params=params)
        reporter.done(SERVICES, wanted, "created")
    reporter.done(PODS, made, "created")
    return 0


def _overridden(obj: Obj, text: str, kind: str) -> Obj:
    """The object with a patch applied here. Raises CommandError."""
    from kubeling.api.builtin import schema_of
    from kubeling.api.patch.json_patch import apply_json_patch
    from kubeling.api.patch.merge_patch import apply_merge_patch
    from kubeling.api.patch.strategic import apply_strategic_patch

    try:
        patch = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CommandError(f"invalid JSON in --overrides: {error}") from error
    match kind:
        case "merge":
            return apply_merge_patch(obj, patch)
        case "strategic" if (schema := schema_of("v1", obj["kind"])) is not None:
            return apply_strategic_patch(obj, patch, schema)
        case "json":
            return dict(apply_json_patch(obj, patch))
    raise CommandError(f"invalid override type: {kind}")


async def _see_it_end(
    session: Session, pod: Obj, container: str, stdin: bool, tty: bool, quiet: bool, remove: bool, timeout: float
) -> int:
    """Connect with a new pod; one that is not begun again is waited for, and its exit status is ours."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    try:
        await attach_or_logs(session, pod, container, stdin=stdin, tty=tty, quiet=quiet, timeout=timeout)
        if pod["spec"].get("restartPolicy") == "Always":
            return 0

        def ended(found: Obj | None) -> bool:
            return found is None or (found.get("status") or {}).get("phase") in ("Succeeded", "Failed")

        await until(session, PODS, name, namespace, ended, must_exist=True)
        status = (await session.client.get(PODS, name, namespace)).get("status") or {}
    finally:
        if remove:
            await session.client.delete(PODS, name, namespace)
            if not quiet:
                print(f'pod "{name}" deleted')
    if status.get("phase") == "Succeeded":
        return 0
    states = [(each.get("state") or {}).get("terminated") or {} for each in status.get("containerStatuses") or []]
    code = next((each["exitCode"] for each in states if each.get("exitCode")), 1)
    print(
        f"pod {namespace}/{name} terminated ({next((each.get('reason', '') for each in states if each), 'Error')})",
        file=sys.stderr,
    )
    return int(code)


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
    labels: Annotated[str, typer.Option("-l", "--labels", help="KEY=VALUE,…; the object's by default.")] = "",
    external_ip: Annotated[str, typer.Option("--external-ip", help="An address from outside that leads to it.")] = "",
    load_balancer_ip: Annotated[str, typer.Option("--load-balancer-ip", help="The address to ask for.")] = "",
    affinity: Annotated[str, typer.Option("--session-affinity", help="None or ClientIP.")] = "",
    overrides: Annotated[str, typer.Option("--overrides", help="JSON that is put over the Service.")] = "",
    override_type: Annotated[str, typer.Option("--override-type", help="merge, strategic or json.")] = "merge",
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
        more = {
            "clusterIP": cluster_ip,
            "externalIPs": [external_ip] if external_ip else None,
            "loadBalancerIP": load_balancer_ip,
            "sessionAffinity": affinity,
        }
        spec |= {key: value for key, value in more.items() if value}
        meta: Obj = {"name": name or obj["metadata"]["name"]}
        if labels or obj["metadata"].get("labels"):
            meta["labels"] = flags.pairs(labels.split(",")) if labels else obj["metadata"]["labels"]
        if dry_run == "client" and session.namespace_given:
            meta["namespace"] = session.namespace
        service: Obj = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec, "status": {"loadBalancer": {}}}
        if overrides:
            service = _overridden(service, overrides, override_type)
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
