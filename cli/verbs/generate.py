"""What `create KIND NAME` makes: the usual kinds from a few flags."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeling.api.resources import CRON_JOBS
from kubeling.cli.session import CommandError, Obj, Session


@dataclass(frozen=True, slots=True)
class Given:
    """The words and flags of the line."""

    words: Sequence[str]
    #: What stands behind a bare `--`.
    command: Sequence[str]
    images: Sequence[str]
    replicas: int
    port: int
    tcp: Sequence[str]
    node_port: int
    literals: Sequence[str]
    files: Sequence[str]
    source: str
    schedule: str

    @property
    def name(self) -> str:
        return self.words[-1]

    @property
    def image(self) -> str:
        if not self.images:
            raise CommandError('required flag(s) "image" not set')
        return self.images[0]


async def make(session: Session, given: Given) -> Obj:
    """The object that the line describes. Raises CommandError where it describes none."""
    if not given.words:
        raise CommandError("must specify one of -f or a kind and a name, such as: create namespace demo")
    kind = given.words[0].lower()
    if kind in ("job",) and given.source:
        return await _job_from(session, given)
    maker = _MAKERS.get(kind)
    if maker is None:
        raise CommandError(
            f"unknown kind {kind!r} for create; known: {', '.join(sorted(set(_MAKERS)))}. Anything else: create -f FILE"
        )
    needed = 3 if kind in ("service", "svc", "secret") else 2
    if len(given.words) != needed:
        raise CommandError(f"exactly one NAME is required, got {len(given.words) - needed + 1}")
    return maker(given)


def _object(api_version: str, kind: str, name: str, **rest: object) -> Obj:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}


def _container_name(image: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", image.rpartition("/")[2].partition("@")[0].partition(":")[0].lower()).strip("-") or "main"


def _deployment(given: Given) -> Obj:
    labels = {"app": given.name}
    containers: list[Obj] = [{"name": _container_name(image), "image": image} for image in given.images or [given.image]]
    if given.port > 0:
        containers[0]["ports"] = [{"containerPort": given.port}]
    return {
        **_object("apps/v1", "Deployment", given.name),
        "metadata": {"name": given.name, "labels": labels},
        "spec": {
            "replicas": given.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def _service(given: Given) -> Obj:
    kinds = {"clusterip": "ClusterIP", "nodeport": "NodePort", "loadbalancer": "LoadBalancer"}
    kind = given.words[1].lower()
    if kind not in kinds:
        raise CommandError(f"unknown service type {given.words[1]!r}; known: clusterip, nodeport, loadbalancer")
    if not given.tcp:
        raise CommandError("at least one --tcp port must be specified")
    ports: list[Obj] = []
    for each in given.tcp:
        port, _, target = each.partition(":")
        if not port.isdigit():
            raise CommandError(f"invalid port specification {each!r}: write --tcp=PORT or --tcp=PORT:TARGET")
        wanted: int | str = int(target) if target.isdigit() else target or int(port)
        ports.append({"name": each.replace(":", "-"), "port": int(port), "protocol": "TCP", "targetPort": wanted})
    if given.node_port:
        ports[0]["nodePort"] = given.node_port
    labels = {"app": given.name}
    spec = {"type": kinds[kind], "selector": labels, "ports": ports}
    return {**_object("v1", "Service", given.name), "metadata": {"name": given.name, "labels": labels}, "spec": spec}


def _data(given: Given) -> dict[str, bytes]:
    data: dict[str, bytes] = {}
    for each in given.literals:
        key, has, value = each.partition("=")
        if not has or not key:
            raise CommandError(f"invalid literal source {each}, expected key=value")
        data[key] = value.encode()
    for each in given.files:
        key, has, path = each.partition("=")
        file = Path(path if has else each)
        try:
            for one in sorted(file.iterdir()) if file.is_dir() else [file]:
                data[key if has else one.name] = one.read_bytes()
        except OSError as error:
            raise CommandError(f"error reading {file}: {error.strerror}") from error
    return data


def _config_map(given: Given) -> Obj:
    text: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, value in _data(given).items():
        try:
            text[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(value).decode()
    return {
        **_object("v1", "ConfigMap", given.name),
        **({"data": text} if text else {}),
        **({"binaryData": binary} if binary else {}),
    }


def _secret(given: Given) -> Obj:
    if given.words[1] != "generic":
        raise CommandError(f"unknown secret type {given.words[1]!r}; known: generic. Anything else: create -f FILE")
    data = {key: base64.b64encode(value).decode() for key, value in _data(given).items()}
    return _object("v1", "Secret", given.name, **({"data": data} if data else {}))


def _job_spec(given: Given, restart: str) -> Obj:
    container: Obj = {"name": given.name, "image": given.image}
    if given.command:
        container["command"] = list(given.command)
    return {"template": {"spec": {"containers": [container], "restartPolicy": restart}}}


def _cron_job(given: Given) -> Obj:
    if not given.schedule:
        raise CommandError('required flag(s) "schedule" not set')
    template = {"metadata": {"name": given.name}, "spec": _job_spec(given, "OnFailure")}
    return _object("batch/v1", "CronJob", given.name, spec={"schedule": given.schedule, "jobTemplate": template})


async def _job_from(session: Session, given: Given) -> Obj:
    kind, _, name = given.source.partition("/")
    if kind not in ("cronjob", "cj", "cronjobs") or not name:
        raise CommandError(f"from must be an existing cronjob: --from=cronjob/NAME, got {given.source!r}")
    source = await session.client.get(CRON_JOBS, name, session.namespace)
    template = source["spec"]["jobTemplate"]
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": name, "uid": source["metadata"]["uid"], "controller": True}
    meta = {
        "name": given.name,
        "labels": (template.get("metadata") or {}).get("labels") or {},
        "annotations": {
            **((template.get("metadata") or {}).get("annotations") or {}),
            "cronjob.kubernetes.io/instantiate": "manual",
        },
        "ownerReferences": [owner],
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": template["spec"]}


_MAKERS: dict[str, Callable[[Given], Obj]] = {
    "namespace": lambda given: _object("v1", "Namespace", given.name),
    "ns": lambda given: _object("v1", "Namespace", given.name),
    "serviceaccount": lambda given: _object("v1", "ServiceAccount", given.name),
    "sa": lambda given: _object("v1", "ServiceAccount", given.name),
    "deployment": _deployment,
    "deploy": _deployment,
    "service": _service,
    "svc": _service,
    "configmap": _config_map,
    "cm": _config_map,
    "secret": _secret,
    "job": lambda given: _object("batch/v1", "Job", given.name, spec=_job_spec(given, "Never")),
    "cronjob": _cron_job,
    "cj": _cron_job,
}
