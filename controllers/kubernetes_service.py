"""The Service `default/kubernetes`: the apiservers as pods see them.

Who they are is learned from the Leases that the apiservers keep in kube-system (label `apiserver.kubernetes.io/identity: kube-apiserver`, annotation
`kubeling.dev/advertise-address: ip:port`); a Lease that was not renewed for its duration, by our clock, no longer counts. Where there are none the
flag --apiserver-endpoints says who they are. The last known ones stay if all fall silent: whoever reads this talks to one of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence

from kubeling.api.errors import ApiError, is_already_exists, is_invalid, is_not_found
from kubeling.api.meta import annotations_of, labels_of, name_of, spec_of
from kubeling.api.resources import ENDPOINT_SLICES, ENDPOINTS, LEASES, SERVICES, Resource
from kubeling.client.controller import Reconciler, Request
from kubeling.client.informer import Change
from kubeling.controllers.context import Context, Obj

NAME, NAMESPACE = "kubernetes", "default"
IDENTITY_LABEL = "apiserver.kubernetes.io/identity"
ADDRESS_ANNOTATION = "kubeling.dev/advertise-address"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
_PORT_NAME = "https"
_ME = Request(NAMESPACE, NAME)
#: Beyond the Lease's own duration: apiservers renew a few times within it.
_DEFAULT_DURATION = 60


def first_address(cidr: str) -> str:
    """The Service's address: the first of the (primary) range."""
    return str(ipaddress.ip_network(cidr.partition(",")[0])[1])


def parse_endpoint(text: str) -> tuple[str, int]:
    """`ip:port` (or `[ip]:port`). ValueError with a remedy for anything else."""
    host, _, port = text.rpartition(":")
    try:
        return str(ipaddress.ip_address(host.strip("[]"))), int(port)
    except ValueError:
        raise ValueError(f"{text!r} is not an apiserver endpoint: write ip:port, such as 172.30.0.11:6443") from None


def service_body(cidr: str, ports: Iterable[int]) -> Obj:
    """The Service without a selector."""
    target = min(ports, default=6443)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": first_address(cidr),
            "clusterIPs": [first_address(cidr)],
            "sessionAffinity": "None",
            "ports": [{"name": _PORT_NAME, "protocol": "TCP", "port": 443, "targetPort": target}],
        },
    }


def _by_port(endpoints: Iterable[tuple[str, int]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for address, port in sorted(set(endpoints)):
        found.setdefault(port, []).append(address)
    return found


def endpoints_body(endpoints: Sequence[tuple[str, int]]) -> Obj:
    """The Endpoints: a subset for each port."""
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {SKIP_MIRROR: "true"}},
        "subsets": [
            {"addresses": [{"ip": each} for each in addresses], "ports": [{"name": _PORT_NAME, "port": port, "protocol": "TCP"}]}
            for port, addresses in sorted(_by_port(endpoints).items())
        ],
    }


def slice_bodies(endpoints: Sequence[tuple[str, int]]) -> list[Obj]:
    """An EndpointSlice for each port; where there is one port only it is called `kubernetes`."""
    by_port = _by_port(endpoints)
    found: list[Obj] = []
    for number, (port, addresses) in enumerate(sorted(by_port.items())):
        name = NAME if number == 0 else f"{NAME}-{port}"
        found.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
                "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
                "ports": [{"name": _PORT_NAME, "port": port, "protocol": "TCP"}],
                "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
            }
        )
    return found


class KubernetesServiceController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._fixed = [parse_endpoint(each) for each in ctx.options.apiserver_endpoints]
        self._services = ctx.informers.informer(SERVICES)
        self._endpoints = ctx.informers.informer(ENDPOINTS)
        self._slices = ctx.informers.informer(ENDPOINT_SLICES)
        self._leases = ctx.informers.informer(LEASES, namespace="kube-system", label_selector=f"{IDENTITY_LABEL}=kube-apiserver")
        #: Lease → (its renewTime, when we saw that by our clock).
        self._seen: dict[str, tuple[str, float]] = {}
        self._loop = Reconciler("kubernetes-service", self.reconcile, workers=1, clock=ctx.clock, max_delay=5.0)
        self._loop.watches(self._services, _kubernetes_only)
        self._loop.watches(self._endpoints, _kubernetes_only)
        self._loop.watches(self._slices, lambda each: (_ME,) if labels_of(each).get("kubernetes.io/service-name") == NAME else ())
        self._loop.needs(self._leases)
        self._leases.add_handler(self._note)
        self._loop.queue.add(_ME)
        self.run = self._loop.run

    def _note(self, change: Change) -> None:
        """A renewal moves a deadline; only a new, changed or lost apiserver needs work."""
        name = name_of(change.obj)
        if change.new is None:
            self._seen.pop(name, None)
            self._loop.queue.add(_ME)
            return
        known = name in self._seen and self._alive(change.new)
        self._seen[name] = (spec_of(change.new).get("renewTime") or "", self._ctx.clock.monotonic())
        if not known or (change.old and annotations_of(change.old) != annotations_of(change.new)):
            self._loop.queue.add(_ME)

    def _alive(self, lease: Obj) -> bool:
        return self._seconds_left(lease) > 0

    def _seconds_left(self, lease: Obj) -> float:
        _, at = self._seen.get(name_of(lease), ("", self._ctx.clock.monotonic()))
        return at + (spec_of(lease).get("leaseDurationSeconds") or _DEFAULT_DURATION) - self._ctx.clock.monotonic()

    async def reconcile(self, request: Request) -> float | None:
        """Bring the Service, the Endpoints and the slices to what the live apiservers are."""
        leases = [each for each in self._leases.store if annotations_of(each).get(ADDRESS_ANNOTATION)]
        alive = [each for each in leases if self._alive(each)]
        endpoints = [parse_endpoint(annotations_of(each)[ADDRESS_ANNOTATION]) for each in alive] or self._fixed
        await self._ensure(
            SERVICES, service_body(self._ctx.options.service_cluster_ip_range, (port for _, port in endpoints)), ()
        )
        if endpoints:
            await self._ensure(ENDPOINTS, endpoints_body(endpoints), ("subsets",))
            wanted = slice_bodies(endpoints)
            for each in wanted:
                await self._ensure(ENDPOINT_SLICES, each, ("ports", "endpoints"))
            await self._drop_slices({name_of(each) for each in wanted})
        return min((self._seconds_left(each) for each in alive), default=None)

    async def _ensure(self, resource: Resource, body: Obj, fields: Sequence[str]) -> None:
        """Create it, or set those fields where they differ; by compare-and-set on what the copy shows."""
        stores = {SERVICES: self._services, ENDPOINTS: self._endpoints, ENDPOINT_SLICES: self._slices}
        existing = stores[resource].store.get(name_of(body), NAMESPACE)
        if existing is None:
            try:
                await self._client.create(resource, body, NAMESPACE)
            except ApiError as error:
                # The Service's own address is refused as taken before its name is.
                if not (is_already_exists(error) or (is_invalid(error) and await self._is_there(resource, name_of(body)))):
                    raise
        elif any((existing.get(field) or []) != body[field] for field in fields):
            await self._client.update(resource, {**existing, **{field: body[field] for field in fields}})

    async def _is_there(self, resource: Resource, name: str) -> bool:
        try:
            await self._client.get(resource, name, NAMESPACE)
        except ApiError as error:
            if is_not_found(error):
                return False
            raise
        return True

    async def _drop_slices(self, wanted: set[str]) -> None:
        for each in self._slices.store.in_namespace(NAMESPACE):
            if labels_of(each).get("kubernetes.io/service-name") == NAME and name_of(each) not in wanted:
                await self._client.delete(
                    ENDPOINT_SLICES, name_of(each), NAMESPACE, resource_version=each["metadata"]["resourceVersion"]
                )


def _kubernetes_only(obj: Obj) -> Iterable[Request]:
    meta = obj["metadata"]
    return (_ME,) if meta["name"] == NAME and meta.get("namespace") == NAMESPACE else ()


def kubernetesservice(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of `default/kubernetes`."""
    return KubernetesServiceController(ctx).run
