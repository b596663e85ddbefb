"""`debug`: a container with tools, put into a pod that runs, into a copy of it, or onto a node."""

from __future__ import annotations

import copy
import random
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from kubeling.api.resources import NODES, PODS
from kubeling.cli import flags
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import targets_of
from kubeling.cli.verbs.execute import attach_or_logs

#: The letters of names that are made up: none that could spell a word.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_RESTRICTED: Obj = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_NETWORK: Obj = {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}
#: Profile → what its container may do: in a pod, and on a node.
_PROFILES: dict[str, tuple[Obj, Obj]] = {
    "legacy": ({}, {}),
    "general": ({"capabilities": {"add": ["SYS_PTRACE"]}}, {}),
    "baseline": ({}, {}),
    "restricted": (_RESTRICTED, _RESTRICTED),
    "netadmin": (_NETWORK, _NETWORK),
    "sysadmin": ({"privileged": True}, {"privileged": True}),
}
#: Those that see the whole node, and those that have its files as well.
_ON_HOST = ("legacy", "general", "netadmin", "sysadmin")
_WITH_FILES = ("legacy", "general", "sysadmin")


@dataclass(frozen=True, slots=True)
class Asked:
    """The line."""

    image: str
    container: str
    command: list[str]
    arguments_only: bool
    env: list[str]
    pull_policy: str
    stdin: bool
    tty: bool
    profile: str
    target: str

    def fill(self, container: Obj) -> Obj:
        """The container as the line wants it; what the line does not say stays."""
        made = dict(container)
        if self.command:
            made.pop("args", None)
            made["args" if self.arguments_only else "command"] = self.command
        given = {"image": self.image, "imagePullPolicy": self.pull_policy, "stdin": self.stdin, "tty": self.tty}
        made |= {key: value for key, value in given.items() if value}
        if self.env:
            made["env"] = [{"name": name, "value": value} for name, value in flags.pairs(self.env).items()]
        return made


async def debug(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="POD | TYPE/NAME [-- COMMAND ARG…]")] = None,
    filename: flags.Filenames = None,
    image: Annotated[str, typer.Option("--image", help="Of the container with the tools.")] = "",
    container: Annotated[
        str, typer.Option("-c", "--container", help="Its name; with --copy-to one of the pod's, to change.")
    ] = "",
    target: Annotated[str, typer.Option("--target", help="See the processes of this container.")] = "",
    copy_to: Annotated[str, typer.Option("--copy-to", help="Make a copy of the pod, with this name.")] = "",
    set_image: Annotated[list[str] | None, typer.Option("--set-image", help="In the copy: CONTAINER=IMAGE.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Delete the pod that was copied.")] = False,
    same_node: Annotated[bool, typer.Option("--same-node", help="The copy runs on the pod's node.")] = False,
    share_processes: Annotated[
        bool | None,
        typer.Option("--share-processes/--no-share-processes", help="Containers of the copy see each other's processes."),
    ] = None,
    keep_labels: Annotated[bool, typer.Option("--keep-labels", help="The copy keeps the labels.")] = False,
    keep_annotations: Annotated[bool, typer.Option("--keep-annotations", help="The copy keeps the annotations.")] = False,
    keep_liveness: Annotated[bool, typer.Option("--keep-liveness", help="The copy keeps liveness probes.")] = False,
    keep_readiness: Annotated[bool, typer.Option("--keep-readiness", help="The copy keeps readiness probes.")] = False,
    keep_startup: Annotated[bool, typer.Option("--keep-startup", help="The copy keeps startup probes.")] = False,
    keep_init: Annotated[
        bool, typer.Option("--keep-init-containers/--no-keep-init-containers", help="The copy runs the init containers.")
    ] = True,
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE; may be repeated.")] = None,
    pull_policy: Annotated[str, typer.Option("--image-pull-policy", help="Always, IfNotPresent or Never.")] = "",
    profile: Annotated[str, typer.Option("--profile", help=", ".join(_PROFILES))] = "legacy",
    arguments_only: Annotated[bool, typer.Option("--arguments-only", help="What follows -- are arguments.")] = False,
    stdin: Annotated[bool, typer.Option("-i", "--stdin", help="Pass our standard input on.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="With a terminal.")] = False,
    attach: Annotated[bool | None, typer.Option("--attach/--no-attach", help="Connect with it; so it is with -i.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say less.")] = False,
) -> int:
    """Look into pods and nodes: `kubeling debug -it web-1 --image=busybox --target=web`, `kubeling debug node/worker-1 -it --image=busybox`."""
    things, _, command = flags.split_at_dashes(words)
    if profile not in _PROFILES:
        raise CommandError(f"unknown profile: {profile}")
    if profile == "legacy" and not quiet:
        print(
            '--profile=legacy is deprecated and will be removed in the future. It is recommended to explicitly specify a profile, for example "--profile=general".',
            file=sys.stderr,
        )
    if not image and not copy_to:
        raise CommandError("you must specify --image when not using --copy-to.")
    if copy_to and target:
        raise CommandError("--target is incompatible with --copy-to. Use --share-processes instead.")
    asked = Asked(image, container, command, arguments_only, env or [], pull_policy, stdin, tty, profile, target)
    if things and "/" not in things[0]:
        things = [f"pods/{name}" for name in things]
    for each in await targets_of(session, things, filenames=filename or [], need_names=True):
        kind, name = each.resource.kind, each.name or ""
        if (each.resource.group, kind) == ("", "Node"):
            made, inside = await _on_node(session, await session.client.get(NODES, name), asked, quiet)
        elif (each.resource.group, kind) != ("", "Pod"):
            raise CommandError(f'"{each.resource.group_version}, Kind={kind}" not supported by debug')
        else:
            pod = await session.client.get(PODS, name, each.namespace)
            if not copy_to:
                made, inside = await _inside(session, pod, asked, quiet)
            else:
                kept = {
                    "labels": keep_labels,
                    "annotations": keep_annotations,
                    "livenessProbe": keep_liveness,
                    "readinessProbe": keep_readiness,
                    "startupProbe": keep_startup,
                    "initContainers": keep_init,
                    "nodeName": same_node,
                }
                made, inside = _copied(pod, copy_to, asked, flags.pairs(set_image or []), kept, share_processes, quiet)
                made = await session.client.create(PODS, made, each.namespace)
                if replace:
                    await session.client.delete(PODS, name, each.namespace)
        if inside and (attach if attach is not None else stdin):
            await attach_or_logs(session, made, inside, stdin=stdin, tty=tty, quiet=quiet)
    return 0


def _letters() -> str:
    return "".join(random.choices(_LETTERS, k=5))


def _named(asked: Asked, quiet: bool) -> str:
    if asked.container:
        return asked.container
    name = f"debugger-{_letters()}"
    if not quiet:
        print(f"Defaulting debug container name to {name}.", file=sys.stderr)
    return name


def _allowed(asked: Asked, place: int) -> Obj:
    context = _PROFILES[asked.profile][place]
    return {"securityContext": copy.deepcopy(context)} if context else {}


async def _inside(session: Session, pod: Obj, asked: Asked, quiet: bool) -> tuple[Obj, str]:
    """A container in the pod itself: it shares its network, and the processes of one container where that is named."""
    meta, name = pod["metadata"], _named(asked, quiet)
    if asked.target and not quiet:
        print(
            f'Targeting container "{asked.target}". If you don\'t see processes from this container it may be because the '
            "container runtime doesn't support this feature.",
            file=sys.stderr,
        )
    made = asked.fill({"name": name, **_allowed(asked, 0), **({"targetContainerName": asked.target} if asked.target else {})})
    body = {"spec": {"ephemeralContainers": [made]}}
    changed = await session.client.patch(
        PODS, meta["name"], body, meta["namespace"], patch_type="strategic", subresource="ephemeralcontainers"
    )
    return changed, name


def _copied(
    pod: Obj, name: str, asked: Asked, images: dict[str, str], kept: dict[str, bool], share: bool | None, quiet: bool
) -> tuple[Obj, str]:
    """A copy of the pod that nobody but its maker looks after, and the container in it that is to be looked into."""
    old, spec = pod["metadata"], copy.deepcopy(pod["spec"])
    meta = {"name": name, "namespace": old["namespace"]}
    meta |= {key: old[key] for key in ("labels", "annotations") if kept[key] and old.get(key)}
    spec.pop("ephemeralContainers", None)
    for key in ("nodeName", "initContainers"):
        if not kept[key]:
            spec.pop(key, None)
    for each in [*spec["containers"], *(spec.get("initContainers") or [])]:
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            if not kept[probe]:
                each.pop(probe, None)
        each["image"] = images.get(each["name"], images.get("*", each["image"]))
    if share is not None:
        spec["shareProcessNamespace"] = share
    elif asked.profile != "legacy":
        spec.setdefault("shareProcessNamespace", True)
    inside = asked.container
    at = next((at for at, each in enumerate(spec["containers"]) if each["name"] == inside), None)
    if at is not None:
        spec["containers"][at] = {**asked.fill(spec["containers"][at]), **_allowed(asked, 0)}
    elif asked.image:
        inside = _named(asked, quiet)
        spec["containers"].append({**asked.fill({"name": inside}), **_allowed(asked, 0)})
    elif inside or not images:
        raise CommandError("you must specify an existing container or a new image when specifying args.")
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}, inside


async def _on_node(session: Session, node: Obj, asked: Asked, quiet: bool) -> tuple[Obj, str]:
    """A pod on the node, with its namespaces and, at /host, its files, as far as the profile goes."""
    name, inside = node["metadata"]["name"], asked.container or "debugger"
    pod_name = f"node-debugger-{name}-{_letters()}"
    if not quiet:
        print(f"Creating debugging pod {pod_name} with container {inside} on node {name}.", file=sys.stderr)
    container: Obj = asked.fill({"name": inside, **_allowed(asked, 1)})
    spec: dict[str, Any] = {
        "nodeName": name,
        "restartPolicy": "Never",
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    if asked.profile in _ON_HOST:
        spec |= {"hostNetwork": True, "hostPID": True, "hostIPC": True}
    if asked.profile in _WITH_FILES:
        container["volumeMounts"] = [{"mountPath": "/host", "name": "host-root"}]
        spec["volumes"] = [{"name": "host-root", "hostPath": {"path": "/"}}]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod_name, "namespace": session.namespace}, "spec": spec}
    return await session.client.create(PODS, pod, session.namespace), inside
