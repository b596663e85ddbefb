"""`create` of Deployments, Jobs, CronJobs, Services and Ingresses."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from kubeling.api.resources import CRON_JOBS
from kubeling.cli import flags
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.verbs.creating import Dashed, Images, Line, container_name, creator, made, name_of, one_image

Tcp = Annotated[list[str] | None, typer.Option("--tcp", help="PORT[:TARGET]; may be repeated.")]


@creator
def deployment(
    words: Dashed = None,
    images: Images = None,
    replicas: Annotated[int, typer.Option("-r", "--replicas", help="How many pods.")] = 1,
    port: Annotated[int, typer.Option("--port", help="The containers' port.")] = -1,
) -> Obj:
    """Make a Deployment: `kubeling create deployment web --image=nginx --replicas=2`."""
    name, command = name_of(words), flags.split_at_dashes(words)[2]
    one_image(images)
    if command and len(images or []) > 1:
        raise CommandError("cannot specify multiple --image options and command")
    labels = {"app": name}
    containers: list[Obj] = [{"name": container_name(image), "image": image} for image in images or []]
    if port > 0:
        containers[0]["ports"] = [{"containerPort": port}]
    if command:
        containers[0]["command"] = command
    obj = made(
        "apps/v1",
        "Deployment",
        name,
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    )
    obj["metadata"]["labels"] = labels
    return obj


def _job_spec(name: str, image: str, command: list[str], restart: str) -> Obj:
    container: Obj = {"name": name, "image": image}
    if command:
        container["command"] = command
    return {"template": {"spec": {"containers": [container], "restartPolicy": restart}}}


@creator
async def job(
    session: Session,
    words: Dashed = None,
    images: Images = None,
    source: Annotated[str, typer.Option("--from", help="cronjob/NAME, of which to make one now.")] = "",
) -> Obj:
    """Make a Job: `kubeling create job once --image=busybox -- date`, `… --from=cronjob/nightly`."""
    name, command = name_of(words), flags.split_at_dashes(words)[2]
    if source and (images or command):
        raise CommandError("either --image or --from must be specified, and no command with --from")
    if not source:
        if not images:
            raise CommandError("either --image or --from must be specified")
        return made("batch/v1", "Job", name, spec=_job_spec(name, one_image(images), command, "Never"))
    kind, _, origin = source.partition("/")
    if kind.partition(".")[0] not in ("cronjob", "cj", "cronjobs") or not origin:
        raise CommandError(f"from must be an existing cronjob: --from=cronjob/NAME, got {source!r}")
    cron = await session.client.get(CRON_JOBS, origin, session.namespace)
    template = cron["spec"]["jobTemplate"]
    meta = template.get("metadata") or {}
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": origin, "uid": cron["metadata"]["uid"], "controller": True}
    obj = made("batch/v1", "Job", name, spec=template["spec"])
    obj["metadata"] |= {
        "labels": meta.get("labels") or {},
        "annotations": {**(meta.get("annotations") or {}), "cronjob.kubernetes.io/instantiate": "manual"},
        "ownerReferences": [owner],
    }
    return obj


@creator
def cronjob(
    words: Dashed = None,
    images: Images = None,
    schedule: Annotated[str, typer.Option("--schedule", help="When, as in cron: '0 3 * * *'.")] = "",
    restart: Annotated[str, typer.Option("--restart", help="OnFailure or Never.")] = "OnFailure",
) -> Obj:
    """Make a CronJob: `kubeling create cronjob nightly --image=busybox --schedule='0 3 * * *' -- date`."""
    name, command = name_of(words), flags.split_at_dashes(words)[2]
    missing = ", ".join(f'"{flag}"' for flag, value in (("image", images), ("schedule", schedule)) if not value)
    if missing:
        raise CommandError(f"required flag(s) {missing} not set")
    template = {"metadata": {"name": name}, "spec": _job_spec(name, one_image(images), command, restart)}
    return made("batch/v1", "CronJob", name, spec={"schedule": schedule, "jobTemplate": template})


def _service(name: str, kind: str, tcp: list[str] | None, node_port: int = 0, **more: str) -> Obj:
    ports: list[Obj] = []
    for each in [one for text in tcp or [] for one in text.split(",")]:
        port, _, target = each.partition(":")
        if not port.isdigit():
            raise CommandError(f"invalid port specification {each!r}: write --tcp=PORT or --tcp=PORT:TARGET")
        wanted: int | str = int(target) if target.isdigit() else target or int(port)
        ports.append({"name": each.replace(":", "-"), "port": int(port), "protocol": "TCP", "targetPort": wanted})
        if node_port:
            ports[-1]["nodePort"] = node_port
    if not ports and kind != "ExternalName" and more.get("clusterIP") != "None":
        raise CommandError("at least one tcp port specifier must be provided")
    labels = {"app": name}
    spec: Obj = {"type": kind, "selector": labels, **({"ports": ports} if ports else {}), **more}
    obj = made("v1", "Service", name, spec=spec)
    obj["metadata"]["labels"] = labels
    return obj


@creator
def clusterip(
    words: Line = None,
    tcp: Tcp = None,
    address: Annotated[str, typer.Option("--clusterip", help="Its address; None makes it headless.")] = "",
) -> Obj:
    """Make a Service with an address in the cluster: `kubeling create service clusterip web --tcp=80:8080`."""
    return (
        _service(name_of(words), "ClusterIP", tcp, clusterIP=address) if address else _service(name_of(words), "ClusterIP", tcp)
    )


@creator
def nodeport(
    words: Line = None, tcp: Tcp = None, node_port: Annotated[int, typer.Option("--node-port", help="The port of nodes.")] = 0
) -> Obj:
    """Make a Service with a port on every node: `kubeling create service nodeport web --tcp=80`."""
    return _service(name_of(words), "NodePort", tcp, node_port)


@creator
def loadbalancer(words: Line = None, tcp: Tcp = None) -> Obj:
    """Make a Service with an address outside: `kubeling create service loadbalancer web --tcp=80`."""
    return _service(name_of(words), "LoadBalancer", tcp)


@creator
def externalname(
    words: Line = None,
    tcp: Tcp = None,
    external: Annotated[str, typer.Option("--external-name", help="The name that it stands for.")] = "",
) -> Obj:
    """Make a Service that is another name: `kubeling create service externalname db --external-name=db.example.com`."""
    if not external:
        raise CommandError('required flag(s) "external-name" not set')
    return _service(name_of(words), "ExternalName", tcp, externalName=external)


_RULE = re.compile(r"(?P<host>[\w*.-]*)(?P<path>/[^=]*)=(?P<service>[\w-]+):(?P<port>[\w-]+)(,tls(=(?P<secret>[\w.-]+))?)?")


@creator
def ingress(
    words: Line = None,
    rules: Annotated[
        list[str] | None, typer.Option("--rule", help="HOST/PATH=SERVICE:PORT[,tls[=SECRET]]; a path that ends in * is a prefix.")
    ] = None,
    default: Annotated[str, typer.Option("--default-backend", help="SERVICE:PORT.")] = "",
    ingress_class: Annotated[str, typer.Option("--class", help="Which controller serves it.")] = "",
    annotations: Annotated[list[str] | None, typer.Option("--annotation", help="KEY=VALUE; may be repeated.")] = None,
) -> Obj:
    """Make an Ingress: `kubeling create ingress web --rule='example.com/*=web:80,tls=cert'`."""
    if not rules and not default:
        raise CommandError(
            "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)"
        )
    hosts: dict[str, list[Obj]] = {}
    secrets: dict[str, list[str]] = {}
    spec: Obj = {}
    for rule in rules or []:
        match = _RULE.fullmatch(rule)
        if match is None:
            raise CommandError(f"rule {rule} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]")
        prefix = match["path"].endswith("*")
        path = {"path": match["path"].removesuffix("*"), "pathType": "Prefix" if prefix else "Exact"}
        path["backend"] = _backend(match["service"], match["port"])
        hosts.setdefault(match["host"], []).append(path)
        if match[5]:
            found = secrets.setdefault(match["secret"] or "", [])
            found += [match["host"]] if match["host"] and match["host"] not in found else []
    if hosts:
        spec["rules"] = [{**({"host": host} if host else {}), "http": {"paths": paths}} for host, paths in hosts.items()]
    if secrets:
        spec["tls"] = [
            {**({"hosts": names} if names else {}), **({"secretName": secret} if secret else {})}
            for secret, names in secrets.items()
        ]
    if default:
        service, _, port = default.partition(":")
        if not service or not port:
            raise CommandError("default-backend should be in format servicename:serviceport")
        spec["defaultBackend"] = _backend(service, port)
    if ingress_class:
        spec["ingressClassName"] = ingress_class
    obj = made("networking.k8s.io/v1", "Ingress", name_of(words), spec=spec)
    if annotations:
        obj["metadata"]["annotations"] = flags.pairs(annotations)
    return obj


def _backend(service: str, port: str) -> Obj:
    return {"service": {"name": service, "port": {"number": int(port)} if port.isdigit() else {"name": port}}}
