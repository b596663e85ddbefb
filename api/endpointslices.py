"""To which Service an EndpointSlice belongs: the label says it (discovery.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterable

from kubeling.api.meta import Object, labels_of, namespace_of

SERVICE_NAME = "kubernetes.io/service-name"


def services_of(slice_: Object) -> tuple[str, ...]:
    """The key (namespace/name) of its Service; empty where it names none."""
    name = labels_of(slice_).get(SERVICE_NAME)
    return (f"{namespace_of(slice_)}/{name}",) if name else ()


#: For informers: `store.by_index("service", "namespace/name")` are the slices of a Service.
INDEXERS = {"service": services_of}


def touched(*versions: Object | None) -> Iterable[str]:
    """The keys of the Services that a change from one version of a slice to another concerns; None: it was, or is, not there."""
    return dict.fromkeys(key for each in versions if each is not None for key in services_of(each))
