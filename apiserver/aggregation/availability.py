"""Whether the servers behind this one answer: the Available condition of every APIService, and what they offer.

A check looks at the Service, its ports and endpoints, and asks for the discovery document. While a server does not answer it is asked again, more and more slowly;
one that does, every half minute. Where no APIService names a Service nothing runs at all.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kubeling.api import errors, resources
from kubeling.api.conditions import set_condition
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, spec_of
from kubeling.api.resources import Resource, Subresource
from kubeling.apiserver.aggregation import identity
from kubeling.apiserver.aggregation.fetch import AGGREGATOR, fetch_json
from kubeling.apiserver.aggregation.registry import Aggregated, Offer, Remote
from kubeling.apiserver.context import Context
from kubeling.apiserver.outbound import CallFailed
from kubeling.apiserver.registry.store import Change
from kubeling.apiserver.storage.errors import StoreError
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import run_until

log = get_logger("aggregation")

_EVERY = 30.0
_SECONDS = 5.0
_MAX_RESOURCES = 5000
Verdict = tuple[str, str, str]


class Availability:
    """Run :meth:`run` as a task."""

    def __init__(self, context: Context, aggregated: Aggregated) -> None:
        self._context = context
        self._aggregated = aggregated
        self._running: dict[str, tuple[tuple[object, ...], asyncio.Task[None], asyncio.Event]] = {}

    async def run(self) -> None:
        """One task for each server, until cancelled."""
        try:
            while True:
                await self._aggregated.changed.wait()
                self._aggregated.changed.clear()
                wanted = {each.name: each for each in self._aggregated}
                for name, (place, task, _) in list(self._running.items()):
                    if name not in wanted or wanted[name].place != place:
                        task.cancel()
                        del self._running[name]
                for name, remote in wanted.items():
                    if name not in self._running:
                        kick = asyncio.Event()
                        self._running[name] = remote.place, asyncio.create_task(self._watch(remote, kick)), kick
        finally:
            for _, task, _ in self._running.values():
                task.cancel()

    def kick(self, remote: Remote) -> None:
        """A request has found the server gone: look now."""
        found = self._running.get(remote.name)
        if found is not None:
            found[2].set()

    async def _watch(self, remote: Remote, kick: asyncio.Event) -> None:
        backoff = Backoff(base=0.2, limit=10)
        while True:
            kick.clear()
            verdict = await self._check(remote)
            try:
                await self._write(remote, verdict)
            except (ApiError, StoreError) as error:
                log.warning("the state of an APIService could not be written", name=remote.name, error=str(error))
                verdict = ("Unknown", "", "")
            if verdict[0] == "True":
                backoff.reset()
            seconds = _EVERY if verdict[0] == "True" else backoff.next()
            await run_until(kick, self._context.clock.sleep(seconds))

    async def _check(self, remote: Remote) -> Verdict:
        """Status, reason and message, in upstream's words."""
        try:
            problem = await self._check_service(remote)
        except (ApiError, StoreError) as error:
            return (
                "Unknown",
                "ServiceAccessError",
                f"service/{remote.service} in {remote.namespace!r} cannot be checked due to: {error}",
            )
        if problem is not None:
            return problem
        path = f"/apis/{remote.group}/{remote.version}" if remote.group else f"/api/{remote.version}"
        try:
            backend = await self._aggregated.backend(remote)
            headers = identity.headers(AGGREGATOR)
            found = await fetch_json(backend, path, headers, _SECONDS)
        except CallFailed as error:
            url = f"https://{remote.server_name}:{remote.port}{path}"
            return "False", "FailedDiscoveryCheck", f"failing or missing response from {url}: {error}"
        self._aggregated.note(remote, Offer(parse_resources(remote, found), await self._openapi(remote)))
        return "True", "Passed", "all checks passed"

    async def _openapi(self, remote: Remote) -> str:
        """Where the server has the OpenAPI document of the group; empty where it has none."""
        key = f"apis/{remote.group}/{remote.version}" if remote.group else f"api/{remote.version}"
        try:
            found = await fetch_json(
                await self._aggregated.backend(remote), "/openapi/v3", identity.headers(AGGREGATOR), _SECONDS
            )
        except CallFailed:
            return ""  # It is not bound to have any.
        paths = found.get("paths")
        entry = paths.get(key) if isinstance(paths, dict) else None
        url = entry.get("serverRelativeURL") if isinstance(entry, dict) else None
        return url if isinstance(url, str) and url.startswith(f"/openapi/v3/{key}") else ""

    async def _check_service(self, remote: Remote) -> Verdict | None:
        """What is wrong with the Service, None where nothing is."""
        where = f'service/{remote.service} in "{remote.namespace}"'
        entry = await self._context.kinds.store(resources.SERVICES).peek(remote.namespace, remote.service)
        if entry is None:
            return "False", "ServiceNotFound", f"{where} is not present"
        spec = spec_of(entry.object())
        if spec.get("type") not in (None, "", "ClusterIP"):
            return None
        port = next((each for each in spec.get("ports") or () if each.get("port") == remote.port), None)
        if port is None:
            return "False", "ServicePortError", f"{where} is not listening on port {remote.port}"
        store = self._context.kinds.store(resources.ENDPOINT_SLICES)
        await store.cache.ready()
        slices = [
            each.object()
            for each in store.cache.entries(store.collection(remote.namespace))
            if each.labels.get("kubernetes.io/service-name") == remote.service
        ]
        if not slices:
            return "False", "EndpointsNotFound", f"cannot find endpointslices for {where}"
        name = port.get("name") or ""
        if not any(_serves(each, name) for each in slices):
            return "False", "MissingEndpoints", f'endpointslices for {where} have no addresses with port name "{name}"'
        return None

    async def _write(self, remote: Remote, verdict: Verdict) -> None:
        status, reason, message = verdict

        async def mutate(obj: Object) -> Change:
            if obj["metadata"]["uid"] == remote.uid:
                conditions = obj.setdefault("status", {}).setdefault("conditions", [])
                set_condition(conditions, "Available", status, self._context.clock.now(), reason=reason, message=message)
            return Change(obj)

        try:
            await self._context.kinds.store(resources.API_SERVICES).change("", remote.name, mutate)
        except ApiError as error:
            if not errors.is_not_found(error):
                raise


def _serves(found: Object, name: str) -> bool:
    named = any((each.get("name") or "") == name for each in found.get("ports") or ())
    ready = any((each.get("conditions") or {}).get("ready") is not False for each in found.get("endpoints") or ())
    return named and ready


def parse_resources(remote: Remote, document: dict[str, Any]) -> tuple[Resource, ...]:
    """An APIResourceList as our own kind of resources. What is malformed is left out: it is a stranger's."""
    found: dict[str, dict[str, Any]] = {}
    listed = document.get("resources")
    for each in listed[:_MAX_RESOURCES] if isinstance(listed, list) else ():
        if not isinstance(each, dict) or not isinstance(each.get("name"), str) or not isinstance(each.get("kind"), str):
            continue
        plural, _, sub = each["name"].partition("/")
        if not sub:
            found[plural] = {**each, "subresources": []}
        elif plural in found:
            kind = Subresource(
                sub, _texts(each.get("verbs")), each["kind"], str(each.get("group") or ""), str(each.get("version") or "")
            )
            found[plural]["subresources"].append(kind)
    return tuple(
        Resource(
            remote.group,
            remote.version,
            plural,
            each["kind"],
            namespaced=each.get("namespaced") is True,
            short_names=_texts(each.get("shortNames")),
            categories=_texts(each.get("categories")),
            verbs=_texts(each.get("verbs")),
            subresources=tuple(each["subresources"]),
            singular=str(each.get("singularName") or ""),
        )
        for plural, each in found.items()
    )


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
