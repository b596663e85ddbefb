"""From Ingresses, and what they refer to, to who gets which request. Pure: objects in, data out (networking.k8s.io/v1).

A request belongs to the rules of its host; where no rule names it, to those of the wildcard that covers it; else to those without a host. Among a host's
paths an exact one wins, then the longest prefix, by whole elements. Of two Ingresses that want the same path the older one has it. What no rule of a host covers
goes to the default backend of the oldest Ingress that names the host and has one; what no rule covers at all to that of an Ingress without rules, else of any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.meta import annotations_of, key_of, metadata_of, namespace_of, spec_of

Obj = dict[str, Any]

CONTROLLER = "kubeling.dev/haproxy-ingress"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"
NO_REDIRECT = "kubeling.dev/ssl-redirect"
#: Stands for requests of no host that a rule names.
ANY_HOST = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where requests go; without `servers` they are answered with 503."""

    namespace: str
    service: str
    port: str
    servers: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.namespace}_{self.service}_{self.port}"


@dataclass(slots=True)
class Host:
    """A host's paths → backend names. Prefixes end with a slash."""

    exact: dict[str, str] = field(default_factory=dict)
    prefix: dict[str, str] = field(default_factory=dict)
    #: Plain HTTP is sent to HTTPS.
    secure: bool = False
    #: Where an Ingress wants what no path of the host covers to go.
    rest: str = ""


@dataclass(slots=True)
class Routing:
    """All of it. `certificates`: key of a Secret → the hosts for which it is shown (none: those that it names itself)."""

    hosts: dict[str, Host] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)
    default: str = ""
    #: The default backend of the oldest Ingress that has rules besides.
    rest: str = ""
    certificates: dict[str, set[str]] = field(default_factory=dict)
    #: Key of an Ingress → what is wrong with it.
    problems: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Ingresses refer to. `services` and `secrets` by namespace/name; `slices` tells those of the Service of this name."""

    services: Mapping[str, Obj]
    slices: Callable[[str], Iterable[Obj]]
    secrets: Mapping[str, Obj]


def is_ours(ingress: Obj, classes: Mapping[str, Obj]) -> bool:
    """By its class, which names this controller; one without a class belongs to the default class."""
    name = spec_of(ingress).get("ingressClassName") or annotations_of(ingress).get(CLASS_ANNOTATION)
    if name:
        return spec_of(classes.get(name, {})).get("controller") == CONTROLLER
    defaults = [each for each in classes.values() if annotations_of(each).get(DEFAULT_ANNOTATION) == "true"]
    return any(spec_of(each).get("controller") == CONTROLLER for each in defaults)


def seniority(ingress: Obj) -> tuple[str, str]:
    """The older one first."""
    return metadata_of(ingress).get("creationTimestamp") or "", key_of(ingress)


def route(ingresses: Iterable[Obj], cluster: Cluster) -> Routing:
    """Who gets what. `ingresses` are all ours."""
    routing = Routing()
    for ingress in sorted(ingresses, key=seniority):
        _Reader(routing, ingress, cluster).read()
    routing.default = routing.default or routing.rest
    for host in routing.hosts.values():
        if host.rest:
            host.prefix.setdefault("/", host.rest)
    return routing


class _Reader:
    """Adds one Ingress to a routing."""

    def __init__(self, routing: Routing, ingress: Obj, cluster: Cluster) -> None:
        self._routing, self._ingress, self._cluster = routing, ingress, cluster
        self._namespace = namespace_of(ingress)

    def read(self) -> None:
        spec = spec_of(self._ingress)
        for rule in spec.get("rules") or ():
            host = self._routing.hosts.setdefault((rule.get("host") or ANY_HOST).lower(), Host())
            for path in (rule.get("http") or {}).get("paths") or ():
                self._path(host, path)
        if spec.get("defaultBackend"):
            name = self._backend(spec["defaultBackend"])
            if not spec.get("rules"):
                self._routing.default = self._routing.default or name
            else:
                self._routing.rest = self._routing.rest or name
                for rule in spec["rules"]:
                    host = self._routing.hosts[(rule.get("host") or ANY_HOST).lower()]
                    host.rest = host.rest or name
        for tls in spec.get("tls") or ():
            self._tls(tls)

    def _path(self, host: Host, path: Obj) -> None:
        text = path.get("path") or "/"
        if not text.startswith("/") or not text.isascii() or not text.isprintable() or " " in text:
            self._problem(f"path {text!r} must begin with a slash and hold only printable ASCII without spaces")
            return
        exact = path.get("pathType") == "Exact"
        table, key = (host.exact, text) if exact else (host.prefix, text.rstrip("/") + "/")
        if key in table:
            self._problem(f"path {text!r} of this host belongs to an older Ingress")
            return
        table[key] = self._backend(path.get("backend") or {})

    def _backend(self, backend: Obj) -> str:
        service = backend.get("service")
        if not service:
            self._problem("only Services can be backends")
            service = {"name": "none", "port": {}}
        port = service.get("port") or {}
        wanted = port.get("name") or port.get("number") or 0
        made = Backend(self._namespace, service["name"], str(wanted), self._servers(service["name"], wanted))
        self._routing.backends[made.name] = made
        return made.name

    def _servers(self, name: str, wanted: str | int) -> tuple[tuple[str, int], ...]:
        key = f"{self._namespace}/{name}"
        service = self._cluster.services.get(key)
        if service is None:
            self._problem(f"Service {key} does not exist")
            return ()
        ports = [each for each in spec_of(service).get("ports") or () if wanted in (each.get("name"), each.get("port"))]
        if not ports:
            self._problem(f"Service {key} has no port {wanted}")
            return ()
        return _ready(self._cluster.slices(key), ports[0].get("name") or "")

    def _tls(self, tls: Obj) -> None:
        hosts = {each.lower() for each in tls.get("hosts") or ()}
        secret = tls.get("secretName")
        key = f"{self._namespace}/{secret}"
        if secret and key not in self._cluster.secrets:
            self._problem(f"Secret {key} does not exist or is not of type kubernetes.io/tls")
        elif secret:
            self._routing.certificates.setdefault(key, set()).update(hosts)
        if annotations_of(self._ingress).get(NO_REDIRECT) == "false":
            return
        for rule in spec_of(self._ingress).get("rules") or ():
            name = (rule.get("host") or ANY_HOST).lower()
            if not hosts or name in hosts:
                self._routing.hosts[name].secure = True

    def _problem(self, words: str) -> None:
        self._routing.problems.setdefault(key_of(self._ingress), []).append(words)


def _ready(slices: Iterable[Obj], port_name: str) -> tuple[tuple[str, int], ...]:
    """Ready endpoints; where there is none, those that end but still serve."""
    ready: set[tuple[str, int]] = set()
    ending: set[tuple[str, int]] = set()
    for each in slices:
        number = next((port.get("port") for port in each.get("ports") or () if (port.get("name") or "") == port_name), None)
        if number is None or each.get("addressType") == "FQDN":
            continue
        for endpoint in each.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            places = {(ip, int(number)) for ip in endpoint.get("addresses") or ()}
            if conditions.get("ready") is not False:
                ready |= places
            elif conditions.get("serving"):
                ending |= places
    return tuple(sorted(ready or ending))


def describe(routing: Routing, ingress: Obj) -> str:
    """For events: what is wrong with one Ingress, "" for nothing."""
    return "; ".join(dict.fromkeys(routing.problems.get(key_of(ingress), [])))
