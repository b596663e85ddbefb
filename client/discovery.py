"""What the server serves: every resource, as :class:`kubeling.api.resources.Resource`, from the aggregated documents (WIRE: `apidiscovery.k8s.io/v2`).

A group whose server is away is in the document as stale; it is reported as failed, since "no such kind" and "cannot tell" are different answers for
those who delete things.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubeling.api.resources import Resource, Subresource, by_plural
from kubeling.client.rest import Client

ACCEPT = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


@dataclass(frozen=True, slots=True)
class Discovered:
    """All resources in all versions, preferred versions first within a group; and the "group/version"s that could not be asked."""

    resources: tuple[Resource, ...]
    failed: tuple[str, ...] = ()

    def preferred(self) -> tuple[Resource, ...]:
        """Each resource in one version only: the one that its group prefers."""
        found: dict[tuple[str, str], Resource] = {}
        for each in self.resources:
            found.setdefault((each.group, each.plural), each)
        return tuple(found.values())

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource of an object's (or an owner reference's) apiVersion and kind; another version of the kind where that one is not served."""
        group, _, version = api_version.rpartition("/")
        same = [each for each in self.resources if each.group == group and each.kind == kind]
        return next((each for each in same if each.version == version), same[0] if same else None)


async def discover(client: Client) -> Discovered:
    """Ask the server. Two requests."""
    resources: list[Resource] = []
    failed: list[str] = []
    for path in ("/api", "/apis"):
        document = await client.request("GET", path, headers={"accept": ACCEPT})
        _collect(document, resources, failed)
    return Discovered(tuple(resources), tuple(failed))


def _collect(document: dict[str, Any], resources: list[Resource], failed: list[str]) -> None:
    for group in document.get("items") or ():
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or ():
            if version.get("freshness") == "Stale":
                failed.append(f"{name}/{version['version']}" if name else version["version"])
                continue
            resources += (_resource(name, version["version"], each) for each in version.get("resources") or ())


def _resource(group: str, version: str, found: dict[str, Any]) -> Resource:
    known = by_plural(group, version, found["resource"])
    kind = (found.get("responseKind") or {}).get("kind") or ""
    verbs = tuple(found.get("verbs") or ())
    namespaced = found.get("scope") == "Namespaced"
    if known is not None and known.kind == kind and set(known.verbs) == set(verbs) and known.namespaced == namespaced:
        return known  # The same object as everybody's constant, so that informers are shared.
    return Resource(
        group,
        version,
        found["resource"],
        kind,
        namespaced,
        short_names=tuple(found.get("shortNames") or ()),
        categories=tuple(found.get("categories") or ()),
        verbs=verbs,
        subresources=tuple(_subresources(found.get("subresources") or ())),
        singular=found.get("singularResource") or "",
    )


def _subresources(found: Iterable[dict[str, Any]]) -> Iterable[Subresource]:
    for each in found:
        yield Subresource(each["subresource"], tuple(each.get("verbs") or ()), (each.get("responseKind") or {}).get("kind") or "")
