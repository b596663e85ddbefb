"""pods/proxy, services/proxy and nodes/proxy: any HTTP request, passed on to where the object's server listens.

The object is named `name`, `name:port` or `scheme:name:port`. Only addresses that belong to the cluster's own objects are dialled: a pod's own address, the
pods behind a Service, a node's. Addresses of this machine itself are no targets, except where the whole cluster lives on loopback addresses.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from ipaddress import ip_address
from urllib.parse import quote

from kubeling.api import errors, resources
from kubeling.api.meta import Object
from kubeling.apiserver import kubelet
from kubeling.apiserver.admission import doors
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers.common import store_of
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request
from kubeling.apiserver.reverse import Backend, DialFailed, Header, Unreachable, forward, request_headers
from kubeling.apiserver.subresources.rewriting import Rewriter

_SCHEMES = ("", "http", "https")
_PORTS = {"http": 80, "https": 443}


async def proxy(context: Context, request: Request, served: Served) -> None:
    """Any method."""
    kind = served.resource.plural
    scheme, name, port = _split(kind, request.info.name)
    locate = {"pods": _pod, "services": _service, "nodes": _node}[kind]
    await doors.connect(context, request, served)
    backend, shown = await locate(context, request, served, scheme or "http", name, port)
    path, rest = _paths(request)
    if not rest and request.scope["method"] in ("GET", "HEAD") and not request.header(b"upgrade"):
        await _redirect(request, path)
        return
    prefix = path.removesuffix(rest) if rest else path
    query = request.scope["query_string"].decode("latin-1")
    target = _target(rest, query)
    host = request.header(b"host")
    more: list[Header] = [(b"host", host.encode("latin-1") or shown.encode())]
    more += [(b"x-forwarded-uri", path.encode("latin-1", "replace")), (b"x-forwarded-host", host.encode("latin-1"))]
    more.append((b"x-forwarded-proto", request.scope.get("scheme", "https").encode()))
    rewriter = Rewriter(prefix.rstrip("/"), frozenset({shown, host}))
    try:
        await forward(context, request, backend, target, request_headers(request, more), rewriter.response)
    except DialFailed as error:
        if request.header(b"upgrade"):
            raise errors.internal(f"error dialing backend: {error}") from None
        raise errors.service_unavailable(f"error trying to reach service: {error}") from None
    except Unreachable as error:
        raise errors.service_unavailable(f"error trying to reach service: {error}") from None


def _split(kind: str, text: str) -> tuple[str, str, str]:
    """`[scheme:]name[:port]` taken apart. Raises 400."""
    parts = text.split(":")
    scheme, name, port = "", parts[0], ""
    if len(parts) == 2:
        port = parts[1]
    elif len(parts) == 3:
        scheme, name, port = parts
    if not name or len(parts) > 3 or scheme not in _SCHEMES:
        raise errors.bad_request(f'invalid {kind[:-1]} request "{text}"')
    return scheme, name, port


def _paths(request: Request) -> tuple[str, str]:
    """The path as it was sent, and of it what comes behind `…/proxy`, escapes and trailing slash as they were."""
    raw = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    path = "/" + raw.decode("latin-1").lstrip("/")
    parts = path.split("/")
    # "", "api", "v1", ["namespaces", ns,] kind, name, "proxy"
    count = 8 if request.info.namespace else 6
    return path, "".join("/" + each for each in parts[count:])


def _target(rest: str, query: str) -> str:
    return (rest or "/") + (f"?{query}" if query else "")


async def _redirect(request: Request, path: str) -> None:
    """Relative links work only below a path that ends with a slash."""
    query = request.scope["query_string"].decode("latin-1")
    location = f"{path}/" + (f"?{query}" if query else "")
    await request.respond(b"", 301, headers=[(b"location", location.encode("latin-1"))])


Located = tuple[Backend, str]


async def _pod(context: Context, request: Request, served: Served, scheme: str, name: str, port: str) -> Located:
    pod = (await store_of(served).read(request.info.namespace, name)).object()
    if not port:
        ports = [each for container in pod["spec"].get("containers") or () for each in (container.get("ports") or ())[:1]]
        port = str(ports[0]["containerPort"]) if ports else ""
    address = (pod.get("status") or {}).get("podIP") or ""
    if not _allowed(context, address):
        raise errors.bad_request("address not allowed")
    return _backend(scheme, address, _number(port, scheme))


async def _service(context: Context, request: Request, served: Served, scheme: str, name: str, port: str) -> Located:
    namespace = request.info.namespace
    service = (await store_of(served).read(namespace, name)).object()
    if port.isdigit():
        ports = (service.get("spec") or {}).get("ports") or ()
        found = next((each for each in ports if each.get("port") == int(port)), None)
        if found is None:
            raise errors.service_unavailable(f'no service port {int(port)} found for service "{name}"')
        port = found.get("name") or ""
    candidates = await _endpoints(context, namespace, name, port)
    if not candidates:
        raise errors.service_unavailable(f'no endpoints available for service "{request.info.name}"')
    address, number = candidates[context.random.randrange(len(candidates))]
    return _backend(scheme, address, number)


async def _endpoints(context: Context, namespace: str, name: str, port: str) -> list[tuple[str, int]]:
    """Ready endpoints of a port that are what they say: an address of the pod that they refer to."""
    store, pods = context.kinds.store(resources.ENDPOINT_SLICES), context.kinds.store(resources.PODS)
    await store.cache.ready()
    found = []
    for entry in store.cache.entries(store.collection(namespace)):
        if entry.labels.get("kubernetes.io/service-name") != name:
            continue
        obj = entry.object()
        numbers = [each["port"] for each in obj.get("ports") or () if (each.get("name") or "") == port and each.get("port")]
        for endpoint in obj.get("endpoints") or ():
            target = endpoint.get("targetRef") or {}
            if (endpoint.get("conditions") or {}).get("ready") is False or target.get("kind") != "Pod":
                continue
            pod = await pods.peek(namespace, target.get("name") or "")
            own = _addresses(pod.object()) if pod else ()
            found += [(each, number) for each in endpoint.get("addresses") or () if each in own for number in numbers]
    return [each for each in found if _allowed(context, each[0])]


def _addresses(pod: Object) -> list[str]:
    status = pod.get("status") or {}
    return [status.get("podIP") or "", *(each.get("ip") or "" for each in status.get("podIPs") or ())]


async def _node(context: Context, request: Request, served: Served, scheme: str, name: str, port: str) -> Located:
    await store_of(served).read("", name)
    where = await kubelet.locate(context, name)
    await _check_node(context, where.host)
    if port in ("", str(where.port)):
        return Backend(((where.host, where.port),), context.kubelets.tls(), where.host), f"{where.host}:{where.port}"
    return _backend(scheme, where.host, _number(port, scheme))


async def _check_node(context: Context, host: str) -> None:
    """A node says itself where it is; it must not be able to say that it is here. Raises 400."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError as error:
        raise errors.bad_request(f"lookup {host}: {error.strerror or error}") from None
    if not all(_allowed(context, str(each[4][0])) for each in found):
        raise errors.bad_request("address not allowed")


def _number(port: str, scheme: str) -> int:
    if not port:
        return _PORTS[scheme]
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise errors.bad_request(f'invalid port "{port}": a number from 1 to 65535 is needed')
    return int(port)


def _backend(scheme: str, host: str, port: int) -> Located:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Backend(((host, port),), _unverified() if scheme == "https" else None, host), shown


@cache
def _unverified() -> ssl.SSLContext:
    """Pods have no certificates that anybody could check."""
    made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def _allowed(context: Context, text: str) -> bool:
    """Whether an address may be dialled for a client. A server that is itself on loopback belongs to a cluster that is all there."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if address.is_loopback:
        own = context.config.advertise_address or context.config.bind_address
        return ip_address(own).is_loopback
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)
