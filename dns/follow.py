"""Keeps the records in step with the cluster."""

from __future__ import annotations

from kubeling.api import endpointslices
from kubeling.api.meta import name_of, namespace_of
from kubeling.api.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from kubeling.client.informer import Change, InformerFactory
from kubeling.dns.records import Records


class Follower:
    """Feeds `records` from informers; a change costs the work of one Service."""

    def __init__(self, informers: InformerFactory, records: Records) -> None:
        self._records = records
        self._services = informers.informer(SERVICES)
        self._slices = informers.informer(ENDPOINT_SLICES, indexers=endpointslices.INDEXERS)
        self._namespaces = informers.informer(NAMESPACES)
        self._services.add_handler(self._on_service)
        self._slices.add_handler(self._on_slice)
        self._namespaces.add_handler(self._on_namespace)

    @property
    def complete(self) -> bool:
        """Whether everything was listed once; from then on the records are served, also while the apiserver is away."""
        return all(informer.synced.is_set() for informer in (self._services, self._slices, self._namespaces))

    def _on_service(self, change: Change) -> None:
        self._refresh(namespace_of(change.obj), name_of(change.obj))

    def _on_slice(self, change: Change) -> None:
        for key in endpointslices.touched(change.old, change.new):
            namespace, _, name = key.partition("/")
            self._refresh(namespace, name)

    def _on_namespace(self, change: Change) -> None:
        self._records.set_namespaces(name_of(each) for each in self._namespaces.store)

    def _refresh(self, namespace: str, name: str) -> None:
        service = self._services.store.get(name, namespace)
        self._records.set_service(service, (namespace, name), self._slices.store.by_index("service", f"{namespace}/{name}"))
