"""Requests bent at the level of bytes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from kubeling.api import protobuf
from tests.apiserver import harness
from tests.apiserver.fuzz import values
from tests.apiserver.fuzz.values import bend, dumps, mangle, string, value

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
PATCHES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


@dataclass
class Case:
    """One request. `raw` is sent as it is, where it is given, and may be answered by a closed connection."""

    method: str
    target: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    note: str = ""


#: Message classes are made when first used, and not by two threads at once.
_PROTOBUF_LOCK = threading.Lock()
Obj = dict[str, Any]
Seed = tuple[str, Obj]


def seeds(namespace: str) -> list[Seed]:
    """Collections, and an object that each of them takes."""
    core, apps = f"/api/v1/namespaces/{namespace}", f"/apis/apps/v1/namespaces/{namespace}"
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.fuzz.example"},
        "spec": {
            "group": "fuzz.example",
            "names": {"plural": "widgets", "kind": "Widget"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}}},
                        }
                    },
                }
            ],
        },
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": harness.deployment("j")["spec"]["template"],
    }
    job["spec"] = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}}
    role["rules"] = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}}
    lease["spec"] = {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2024-01-01T00:00:00.000000Z"}
    return [
        (f"{core}/configmaps", harness.config_map("c", a="b")),
        (f"{core}/pods", harness.pod("p", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}])),
        (f"{core}/services", harness.service("s")),
        (f"{core}/secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}}),
        (f"{apps}/deployments", harness.deployment("d", replicas=2)),
        (f"/apis/batch/v1/namespaces/{namespace}/jobs", job),
        (f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles", role),
        (f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", lease),
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All", crd),
    ]


def json_bodies(source: Random, obj: Obj) -> bytes:
    """JSON that is cut, odd, huge or hostile."""
    what = source.randrange(14)
    if what < 5:
        return dumps(bend(source, obj))
    if what < 8:
        return mangle(source, dumps(obj))
    if what == 8:
        return source.choice((b"[", b'{"a":', b"[[", b'{"metadata":{"labels":')) * source.choice((10, 600, 50_000))
    if what == 9:
        depth = source.choice((50, 200, 900, 5000))
        return b'{"metadata":{"name":"x"},"data":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    if what == 10:
        number = source.choice(
            (b"1" * 5000, b"-" + b"9" * 400, b"1e400", b"0.1e-9999", b"NaN", b"Infinity", b"01", b"1.", b"0x1", b"--1")
        )
        return b'{"metadata":{"name":"x","generation":%b},"data":{"a":%b}}' % (number, number)
    if what == 11:
        text = source.choice(
            (b"\\ud800", b"\\u0000", b"\xff\xfe", b"\xed\xa0\x80", b"\\x41", b"\t", b"\\", b"\xc0\xaf", b"\\ud800\\u0041")
        )
        return b'{"metadata":{"name":"%b","labels":{"%b":"x"}},"data":{"%b":"%b"}}' % (text, text, text, text)
    if what == 12:
        return (
            b'{"metadata":{"name":"x"},"data":{"a":"' + b"x" * source.choice((1 << 18, 1 << 20, 3 << 20, (3 << 20) + 1)) + b'"}}'
        )
    doubled = b",".join(b'"a%d":"1"' % (at % 7) for at in range(source.choice((10, 3000))))
    return b'{"metadata":{"name":"x"},"metadata":{"name":"y"},"data":{%b}}' % doubled


_YAML = [
    b"a: &a [*a]\n",
    b"&a a: *a\n",
    b"metadata: &m {name: x, labels: *m}\n",
    b"a: &a {<<: *a}\n",
    b"<<: [1, 2]\n",
    b"<<: {a: 1}\nmetadata: {name: x}\n",
    b"!!python/object/apply:os.system ['true']\n",
    b"metadata: !!binary aGk=\n",
    b"metadata: {name: !!int '7'}\ndata: !!set {a, b}\n",
    b"data: !!omap [a: 1]\nmetadata: {name: x}\n",
    b"metadata: {name: x}\ndata: {1: 2, true: false, ~: x, 1.5: y}\n",
    b"? [complex, key]\n: value\n",
    b"metadata: {name: .nan}\ndata: {a: .inf, b: 0b11, c: 0o17, d: 1_000, e: 12:30:45, f: 2001-01-01}\n",
    b"--- {}\n--- {}\n...\n---\n",
    b"%YAML 9.9\n---\na: b\n",
    b"%TAG ! tag:x,2000:\n---\n!x a\n",
    b"a: |9\n  x\n",
    b"\tmetadata: x\n",
    b"a: 'unclosed\n",
    b"metadata:\n  name: x\n name: y\n",
    b"\xff\xfea\x00:\x00",
    b"data: {a: !!float 1e999999999}\nmetadata: {name: x}\n",
    b"data: {a: !!timestamp 9999-99-99}\n",
    b"data: {a: !!int 0x}\n",
    b"data: {a: !!bool maybe}\n",
    b"data: {a: !!null 5}\n",
    b"- " * 3000,
    b"{" * 3000,
    b"a: " * 500,
    b"? " * 2000,
    b"metadata: {name: x}\ndata: {? a, ? b}\n",
    b"- &x x\n- *y\n",
    b"=: =\n",
    b"metadata: {name: =}\n",
]


def yaml_bodies(source: Random, obj: Obj) -> bytes:
    """YAML with aliases, tags and its other traps."""
    what = source.randrange(8)
    if what < 3:
        return source.choice(_YAML)
    if what == 3:
        # Each level refers ten times to the one before: small on the wire, and larger than any memory when it is written out.
        levels = source.choice((3, 9, 40))
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, levels)]
        return ("metadata: {name: bomb}\ndata:\n  " + "\n  ".join(lines) + "\n").encode()
    if what == 4:
        lines = ["a0: &a0 {x: y}"] + [f"a{at}: &a{at} {{l: *a{at - 1}, r: *a{at - 1}}}" for at in range(1, 40)]
        return ("metadata: {name: bomb}\ndata:\n  " + "\n  ".join(lines) + "\n").encode()
    import yaml

    text = yaml.safe_dump(json.loads(dumps(obj))).encode()
    if what == 5:
        return mangle(source, source.choice(_YAML))
    return mangle(source, text)


def varint(number: int) -> bytes:
    """Base-128, as protobuf has it."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def protobuf_bodies(source: Random, obj: Obj) -> bytes:
    """Protobuf that lies about lengths, types and depth."""
    with _PROTOBUF_LOCK:
        raw = protobuf.encode(obj)
    what = source.randrange(7)
    if what < 3:
        return raw[:4] + mangle(source, raw[4:])
    if what == 3:
        return mangle(source, raw)
    if what == 4:
        return raw[: source.randrange(len(raw))]
    if what == 5:
        inner = b""
        for _ in range(source.choice((50, 500, 5000))):
            inner = b"\x0a" + varint(len(inner)) + inner
        return b"k8s\0" + b"\x12" + varint(len(inner)) + inner
    parts = [bytes([source.randrange(256)]) + varint(source.choice((0, 1, 5, 2**31, 2**63, 2**64 - 1, 2**70))) for _ in range(20)]
    return raw + b"".join(parts)


_POINTERS = [
    "",
    "/",
    "/metadata",
    "/metadata/name",
    "/metadata/labels/a~1b",
    "/metadata/~",
    "/metadata/~2",
    "/data",
    "/data/-",
    "/data/a",
]
_POINTERS += [
    "/spec",
    "/spec/containers",
    "/spec/containers/0",
    "/spec/containers/-",
    "/spec/containers/-1",
    "/spec/containers/01",
    "a",
    "/data/",
]
_POINTERS += [
    "/spec/containers/99999999999999999999",
    "/metadata/managedFields",
    "/spec/ports/0/port",
    "/status",
    "//",
    "/metadata/finalizers/0",
]


def json_patch(source: Random) -> Any:
    """Operations that do not fit, and some that would grow for ever."""
    if source.random() < 0.1:
        return [{"op": "add", "path": "/data", "value": {"a": "x" * 1000}}] + [
            {"op": "copy", "from": "/data", "path": f"/data/c{at}"} for at in range(source.choice((5, 40)))
        ]
    if source.random() < 0.05:
        return [{"op": "test", "path": "/metadata/name", "value": "x"}] * 20_000
    operations: list[Any] = []
    for _ in range(source.randrange(5)):
        operation: Any = {
            "op": source.choice(("add", "remove", "replace", "move", "copy", "test", "Add", "", "nothing")),
            "path": source.choice(_POINTERS),
        }
        if source.random() < 0.6:
            operation["value"] = value(source)
        if source.random() < 0.5:
            operation["from"] = source.choice(_POINTERS)
        operations.append(bend(source, operation) if source.random() < 0.2 else operation)
    return bend(source, operations) if operations and source.random() < 0.1 else operations


_DIRECTIVES = [
    {"$patch": "replace"},
    {"$patch": "delete"},
    {"$patch": "merge"},
    {"$patch": 7},
    {"$retainKeys": ["name"]},
    {"$retainKeys": "name"},
    {"$setElementOrder/containers": [{"name": "c"}]},
    {"$setElementOrder/containers": [{"nome": "c"}, 5]},
    {"$setElementOrder/finalizers": ["a"]},
    {"$deleteFromPrimitiveList/finalizers": ["a", 5]},
    {"$deleteFromPrimitiveList/containers": {}},
    {"$unknown": 1},
    {"containers": [{"$patch": "delete", "name": "c"}]},
    {"containers": [{"$patch": "delete"}]},
    {"containers": [{"$patch": "replace"}, {"name": "d", "image": "i"}]},
    {"containers": [{"image": "i"}]},
    {"containers": ["c"]},
    {"containers": None},
    {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]},
]


def merge_patch(source: Random, obj: Obj) -> Any:
    """Part of an object, bent; with directives at places where they belong and where they do not."""
    made = bend(source, {key: each for key, each in obj.items() if key not in ("apiVersion", "kind")})
    if isinstance(made, dict) and source.random() < 0.6:
        place = source.choice(("metadata", "spec", "data", ""))
        directive = source.choice(_DIRECTIVES)
        if not place:
            made.update(directive)
        elif isinstance(made.get(place), dict):
            made[place].update(directive)
        else:
            made[place] = directive
    return made


def patch(source: Random, obj: Obj) -> tuple[str, bytes]:
    """A patch of one of the four kinds: its media type and body."""
    kind = source.choice(list(PATCHES))
    if kind == "json":
        raw = dumps(json_patch(source))
    elif kind == "apply":
        raw = yaml_bodies(source, obj) if source.random() < 0.4 else dumps(bend(source, obj))
    else:
        raw = dumps(merge_patch(source, obj))
    return PATCHES[kind], mangle(source, raw) if source.random() < 0.15 else raw


_LABEL = [
    "a",
    "a=b",
    "a!=b",
    "!a",
    "a in (b,c)",
    "a notin (b)",
    "a in ()",
    "a in (",
    "a in b",
    "a=b,c",
    ",",
    "a==b",
    "a=",
    "=b",
    "a>1",
    "a<x",
    "a b",
]
_FIELD = [
    "metadata.name=x",
    "metadata.namespace!=y",
    "metadata.name",
    "a=b",
    "spec.nodeName=",
    "metadata.name=a\\,b",
    "metadata.name=\\",
    "=,=",
    "status.phase==",
]
_OPTIONS = (
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "labelSelector",
    "fieldSelector",
    "dryRun",
    "fieldManager",
    "force",
)
_OPTIONS += (
    "fieldValidation",
    "timeoutSeconds",
    "sendInitialEvents",
    "allowWatchBookmarks",
    "gracePeriodSeconds",
    "propagationPolicy",
)
_OPTIONS += (
    "orphanDependents",
    "pretty",
    "includeObject",
    "watch",
    "timeout",
    "tailLines",
    "sinceTime",
    "command",
    "ports",
    "path",
    "x",
)


def token(source: Random) -> str:
    """A continue token: ours, bent, or nonsense."""
    honest: Any = {
        "v": "meta.k8s.io/v1",
        "rv": source.choice((1, 5, 10**6, -1, 0, 2**63)),
        "start": source.choice(("", "a\0", "../x", string(source))),
    }
    if source.random() < 0.5:
        honest = bend(source, honest)
    made = base64.urlsafe_b64encode(dumps(honest)).decode().rstrip("=")
    return source.choice((made, made, made[:-1], made + "!", string(source)))


def options(source: Random) -> str:
    """A query: some options that belong there, with values that may not."""
    pairs = []
    for _ in range(source.randrange(1, 5)):
        name = source.choice(_OPTIONS)
        if name == "labelSelector":
            text = ",".join(source.choice(_LABEL) for _ in range(source.choice((1, 1, 3, 400))))
        elif name == "fieldSelector":
            text = ",".join(source.choice(_FIELD) for _ in range(source.choice((1, 1, 3))))
        elif name == "continue":
            text = token(source)
        elif source.random() < 0.4:
            text = source.choice(
                ("1", "0", "-1", "true", "false", "All", "Strict", "Exact", "NotOlderThan", "Background", "2", "500", "9" * 18)
            )
        else:
            text = string(source)[:3000]
        pairs.append(f"{quote(name)}={quote(text.encode('utf-8', 'surrogatepass'))}")
    made = "&".join(pairs)
    return made if source.random() < 0.9 else made + source.choice(("&", "&&", "%", "%zz", "=", "&=", "&watch", "&a[]=1", ";b=1"))


_SEGMENTS = [
    "api",
    "apis",
    "v1",
    "apps",
    "namespaces",
    "pods",
    "watch",
    "status",
    "scale",
    "log",
    "exec",
    "proxy",
    "binding",
    "eviction",
    "ephemeralcontainers",
]
_SEGMENTS += [
    "default",
    "x",
    "..",
    ".",
    "%2e%2e",
    "%2f",
    "%00",
    "%ff",
    "%",
    "%zz",
    "",
    "a%20b",
    "é".encode().hex(),
    "token",
    "finalize",
    "openapi",
    "v2",
    "v3",
]
_SEGMENTS += [
    "healthz",
    "readyz",
    "livez",
    "metrics",
    "version",
    ".well-known",
    "openid-configuration",
    "a" * 300,
    "*",
    "{name}",
    "nodes",
    "services:80",
    "p:80",
    "https:p:80",
]


def path(source: Random) -> str:
    """A path of pieces that may not fit."""
    made = "/" + "/".join(source.choice(_SEGMENTS) for _ in range(source.choice((1, 2, 3, 4, 5, 6, 7, 9, 40))))
    return made if source.random() < 0.97 else made + "/x" * 12_000


_HEADERS: list[tuple[str, tuple[str, ...]]] = [
    (
        "accept",
        (
            "text/html",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            "*/*;q=x",
            "application/yaml",
            PROTOBUF,
            ",",
            ";",
            "application/json;as=Table;v=v9",
            "a" * 5000,
        ),
    ),
    (
        "accept",
        (
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io",
        ),
    ),
    ("accept-encoding", ("gzip", "gzip;q=0", "br, gzip;q=1.5", "\x7f")),
    (
        "content-type",
        (
            "",
            ";",
            "application/json; charset=latin-1",
            "text/plain",
            "multipart/form-data",
            "application/json-patch+json",
            "x" * 5000,
        ),
    ),
    ("content-encoding", ("gzip", "nonsense")),
    ("impersonate-user", ("bob", "system:serviceaccount:a:b", "\u00ff", "system:admin")),
    *((f"impersonate-{each}", ("system:masters", "", "x")) for each in ("group", "uid", "extra-a%zz")),
    ("if-none-match", ("*", '"x"')),
    ("x-remote-user", ("admin",)),
    ("connection", ("close", "upgrade", "keep-alive, x")),
    ("upgrade", ("websocket", "SPDY/3.1", "h2c", "")),
    ("sec-websocket-protocol", ("v5.channel.k8s.io", "nonsense", ",,,")),
    ("sec-websocket-key", ("AAAA", "")),
    ("sec-websocket-version", ("13", "99", "x")),
    ("x-stream-protocol-version", ("v4.channel.k8s.io", "")),
    ("expect", ("100-continue", "200-ok")),
    ("range", ("bytes=0-1",)),
    ("origin", ("null",)),
    ("user-agent", ("", "x" * 4000, "kubectl/\u00ff")),
    ("traceparent", ("00-nonsense",)),
    ("forwarded", ("for=x",)),
]


def headers(source: Random) -> dict[str, str]:
    """A few that may be odd."""
    made = {}
    for _ in range(source.choice((0, 1, 1, 2, 4))):
        name, chosen = source.choice(_HEADERS)
        made[name] = source.choice(chosen)
    if any(name.startswith("impersonate-") for name in made):
        # Without a user it is a 500 at upstream too.
        made.setdefault("impersonate-user", "bob")
    if source.random() < 0.01:
        made.update({f"x-{at}": "y" * 100 for at in range(500)})
    return made


_WIRE = [
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET\r\n\r\n",
    b"\r\n\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n{}  ",
    b"POST /api/v1/namespaces HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
    b"GET /api/v1/pods\xff\xfe HTTP/1.1\r\n\r\n",
    b"GET http://elsewhere.example/api HTTP/1.1\r\n\r\n",
    b"CONNECT elsewhere.example:443 HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"TRACE / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nx\r\n\r\n",
    b"GET / HTTP/1.1\r\nx: \0\r\n\r\n",
    b"GET /version HTTP/1.0\r\n\r\n",
    b"GET /version HTTP/1.1\r\n\r\n" * 50,
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET //\\/:0 HTTP/1.1\r\n\r\n",
    b"GET /%u1234?%u1234 HTTP/1.1\r\n\r\n",
]


def wire(source: Random) -> bytes:
    """What is hardly HTTP."""
    made = source.choice(_WIRE)
    return mangle(source, made[:4000]) if source.random() < 0.4 else made


class Hostile:
    """Cases without end, the same for the same seed."""

    def __init__(self, seed: int, namespace: str) -> None:
        self._source = Random(seed)
        self._seeds = seeds(namespace)
        self._makers: list[tuple[int, Callable[[], Case]]] = [
            (30, self._create),
            (25, self._patch),
            (10, self._put),
            (15, self._query),
            (8, self._path),
            (4, self._delete),
            (8, self._wire),
        ]

    def next(self) -> Case:
        """The next case."""
        weights = [weight for weight, _ in self._makers]
        made = self._source.choices([maker for _, maker in self._makers], weights)[0]()
        if made.raw is None and self._source.random() < 0.3:
            made.headers |= headers(self._source)
        return made

    def _target(self) -> tuple[str, Obj, str]:
        target, obj = self._source.choice(self._seeds)
        base, _, query = target.partition("?")
        if self._source.random() < 0.25:
            query = "&".join(filter(None, (query, options(self._source))))
        return base, obj, f"?{query}" if query else ""

    def _body(self, obj: Obj) -> tuple[str, bytes]:
        form = self._source.choice((JSON, JSON, YAML, PROTOBUF))
        if form == PROTOBUF and obj["kind"] == "CustomResourceDefinition":
            form = YAML
        maker = {JSON: json_bodies, YAML: yaml_bodies, PROTOBUF: protobuf_bodies}[form]
        return form, maker(self._source, obj)

    def _create(self) -> Case:
        base, obj, query = self._target()
        form, raw = self._body(obj)
        if self._source.random() < 0.25:
            form, raw = JSON, dumps(obj)
        return Case("POST", base + query, raw, {"content-type": form})

    def _put(self) -> Case:
        base, obj, query = self._target()
        form, raw = self._body(obj)
        door = self._source.choice(
            ("", "", "/status", "/scale", "/binding", "/eviction", "/ephemeralcontainers", "/resize", "/nothing")
        )
        method = "POST" if door in ("/binding", "/eviction") else "PUT"
        return Case(method, f"{base}/{obj['metadata']['name']}{door}{query}", raw, {"content-type": form})

    def _patch(self) -> Case:
        base, obj, query = self._target()
        form, raw = patch(self._source, obj)
        if form == PATCHES["apply"] and "fieldManager" not in query:
            query = f"{query}&fieldManager=f" if query else "?fieldManager=f"
            query += self._source.choice(("", "&force=true"))
        door = self._source.choice(("", "", "", "/status", "/scale"))
        return Case("PATCH", f"{base}/{obj['metadata']['name']}{door}{query}", raw, {"content-type": form})

    def _query(self) -> Case:
        base, obj, _ = self._target()
        where = self._source.choice((base, base, f"{base}/{obj['metadata']['name']}", f"{base}/p/log", f"{base}/p/exec"))
        return Case("GET", f"{where}?{options(self._source)}", headers=headers(self._source))

    def _path(self) -> Case:
        method = self._source.choice(("GET", "GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS"))
        query = f"?{options(self._source)}" if self._source.random() < 0.3 else ""
        body = b"" if method in ("GET", "HEAD") else values.dumps(value(self._source))
        return Case(method, path(self._source) + query, body, {"content-type": JSON} if body else {})

    def _delete(self) -> Case:
        base, obj, query = self._target()
        name = f"/{obj['metadata']['name']}" if self._source.random() < 0.7 else ""
        if not name and "dryRun" not in query:
            query = "?dryRun=All"
        sent = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": "x"},
            "propagationPolicy": "Orphan",
        }
        raw = dumps(bend(self._source, sent)) if self._source.random() < 0.7 else b""
        return Case("DELETE", f"{base}{name}{query}", raw, {"content-type": JSON} if raw else {})

    def _wire(self) -> Case:
        return Case("", "", raw=wire(self._source))
