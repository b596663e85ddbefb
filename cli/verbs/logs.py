"""`logs`: what containers wrote."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.api.labels import from_selector
from kubeling.api.resources import PODS
from kubeling.cli import flags
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import targets_of

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_MAX_STREAMS = 5


async def logs(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="POD | TYPE/NAME [CONTAINER]")] = None,
    container: Annotated[str, typer.Option("-c", "--container", help="Which container.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as more is written.")] = False,
    previous: Annotated[bool, typer.Option("-p", "--previous", help="Of the run before the last restart.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", help="Only the last lines; -1 is all.")] = None,
    since: Annotated[str, typer.Option("--since", help="Only what is younger than this, such as 5m.")] = "",
    since_time: Annotated[str, typer.Option("--since-time", help="Only what is younger: a time as in RFC 3339.")] = "",
    timestamps: Annotated[bool, typer.Option("--timestamps", help="When each line was written.")] = False,
    selector: flags.Selector = "",
    all_containers: Annotated[bool, typer.Option("--all-containers", help="Of all containers.")] = False,
    all_pods: Annotated[
        bool, typer.Option("--all-pods", help="Of all pods of what is named, each line with whose it is.")
    ] = False,
    ignore_errors: Annotated[
        bool, typer.Option("--ignore-errors", help="Go on with the others where one cannot be read.")
    ] = False,
    most: Annotated[int, typer.Option("--max-log-requests", help="How many may be followed at once.")] = _MAX_STREAMS,
    prefix: Annotated[bool, typer.Option("--prefix", help="Say before each line whose it is.")] = False,
    limit_bytes: Annotated[int, typer.Option("--limit-bytes", help="At most so many bytes; 0 is all.")] = 0,
) -> int:
    """Show what a pod's containers wrote: `kubeling logs web-1 -f`, `kubeling logs deploy/web`, `kubeling logs -l app=web --prefix`.

    The name of a daemon (apiserver, worker-1/kubelet …) shows what that writes, as `kubeling daemon-logs` does; a pod of such a name is `pod/NAME`.
    """
    if since and since_time:
        raise CommandError("at most one of `sinceTime` or `sinceSeconds` may be specified")
    prefix = prefix or all_pods
    if selector:
        listed = await session.client.list(PODS, session.namespace, label_selector=selector)
        found = listed.get("items") or []
        tail = 10 if tail is None else tail
    elif words:
        try:
            found = await pods_of(session, words[0]) if all_pods else [await pod_of(session, words[0])]
        except ApiError as error:
            if error.code != 404:
                raise
            words_ = f'error from server (NotFound): {error.message} in namespace "{session.namespace}"'
            raise CommandError(words_) from error
        container = container or (words[1] if len(words) > 1 else "")
    else:
        raise CommandError(
            "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\n"
            "POD or TYPE/NAME is a required argument for the logs command\n"
            "See 'kubeling logs -h' for help and examples"
        )
    streams = [(pod["metadata"]["name"], name) for pod in found for name in _containers(pod, container, all_containers)]
    if follow and len(streams) > most:
        raise CommandError(
            f"you are attempting to follow {len(streams)} log streams, but maximum allowed concurrency is {most}, "
            "use --max-log-requests to increase the limit"
        )
    params: dict[str, str | int | bool | None] = {
        "follow": follow or None,
        "previous": previous or None,
        "tailLines": tail if tail is not None and tail >= 0 else None,
        "sinceSeconds": max(1, int(flags.duration(since))) if since else None,
        "sinceTime": since_time or None,
        "timestamps": timestamps or None,
        "limitBytes": limit_bytes or None,
    }

    async def show(pod: str, name: str) -> None:
        try:
            await copy(pod, name)
        except ApiError as error:
            if not ignore_errors:
                raise
            print(f"error: {error.message}", file=sys.stderr)

    async def copy(pod: str, name: str) -> None:
        head = f"[pod/{pod}/{name}] ".encode() if prefix else b""
        path = PODS.path(session.namespace, pod, "log")
        query = {**params, "container": name}
        if not head:
            async for chunk in session.client.stream("GET", path, params=query):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            return
        async for line in session.client.stream_lines("GET", path, params=query):
            sys.stdout.buffer.write(head + line + b"\n")
            sys.stdout.buffer.flush()

    if follow:
        await asyncio.gather(*(show(pod, name) for pod, name in streams))
    else:
        for pod, name in streams:
            await show(pod, name)
    return 0


async def pod_of(session: Session, word: str) -> Obj:
    """The pod of that name, or one of those that the named owner selects."""
    pods = await pods_of(session, word)
    if len(pods) > 1:
        print(f"Found {len(pods)} pods, using pod/{pods[0]['metadata']['name']}", file=sys.stderr)
    return pods[0]


async def pods_of(session: Session, word: str) -> list[Obj]:
    """The pod of that name, or those that the named owner selects: those that run first. Raises CommandError for none."""
    if "/" not in word:
        return [await session.client.get(PODS, word, session.namespace)]
    target = (await targets_of(session, [word]))[0]
    obj = await session.client.get(target.resource, target.name or "", target.namespace)
    if target.resource.kind == "Pod":
        return [obj]
    selector = (obj.get("spec") or {}).get("selector")
    if not selector:
        raise CommandError(f"no pods are known for {word}")
    text = (
        str(from_selector(selector))
        if "matchLabels" in selector or "matchExpressions" in selector
        else ",".join(f"{key}={value}" for key, value in selector.items())
    )
    pods: list[Obj] = (await session.client.list(PODS, session.namespace, label_selector=text)).get("items") or []
    if not pods:
        raise CommandError(f"no pods found for {word}")
    return sorted(pods, key=lambda pod: (pod.get("status", {}).get("phase") != "Running", pod["metadata"]["name"]))


def _containers(pod: Obj, wanted: str, all_of_them: bool) -> list[str]:
    if all_of_them:
        spec = pod.get("spec") or {}
        return [each["name"] for kind in ("initContainers", "containers", "ephemeralContainers") for each in spec.get(kind) or []]
    return [container_of(pod, wanted)]


def container_of(pod: Obj, wanted: str, *, quiet: bool = False) -> str:
    """The container that is meant: the one called `wanted`, the one that the pod's annotation names, or the first, which is said."""
    spec = pod.get("spec") or {}
    names = [each["name"] for kind in ("containers", "initContainers", "ephemeralContainers") for each in spec.get(kind) or []]
    if wanted:
        if wanted not in names:
            raise CommandError(f"container {wanted} is not valid for pod {pod['metadata']['name']}; it has: {', '.join(names)}")
        return wanted
    default = (pod["metadata"].get("annotations") or {}).get(_DEFAULT_CONTAINER)
    if default in names:
        return str(default)
    if len(names) > 1 and not quiet:
        marks = {each["name"]: " (init)" for each in spec.get("initContainers") or []}
        marks |= {each["name"]: " (ephem)" for each in spec.get("ephemeralContainers") or []}
        print(
            f'Defaulted container "{names[0]}" out of: {", ".join(name + marks.get(name, "") for name in names)}', file=sys.stderr
        )
    return str(names[0])
