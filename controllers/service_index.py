"""From a pod to the Services that select it, without going through all Services: an index by one label of each selector."""

from __future__ import annotations

from collections.abc import Iterable

from kubeling.api.labels import from_labels
from kubeling.api.meta import labels_of, namespace_of
from kubeling.client.controller import Request, request_for
from kubeling.client.store import Store
from kubeling.controllers.context import Obj
from kubeling.controllers.endpoints_plan import selects


def by_selector(service: Obj) -> Iterable[str]:
    """An indexer: namespace and the first pair of the selector, which every selected pod has."""
    selector = selects(service)
    if not selector:
        return ()
    key = min(selector)
    return (f"{namespace_of(service)}/{key}={selector[key]}",)


SERVICE_INDEXERS = {"selector": by_selector}


def services_of_pod(services: Store, pod: Obj) -> list[Request]:
    """The Services whose selector matches the pod's labels."""
    found: list[Request] = []
    labels = labels_of(pod)
    for key, value in labels.items():
        for service in services.by_index("selector", f"{namespace_of(pod)}/{key}={value}"):
            if from_labels(selects(service)).matches(labels):
                found.append(request_for(service))
    return found
