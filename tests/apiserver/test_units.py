"""The parts that need no process."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from kubeling.api.errors import ApiError
from kubeling.apiserver import negotiate
from kubeling.apiserver.cache.entry import encode, head_of, make_entry, with_revision
from kubeling.apiserver.cache.hub import prefix_of
from kubeling.apiserver.cache.watcher import MAX_EVENTS, Event, Watcher
from kubeling.apiserver.handlers import yaml_body
from kubeling.apiserver.handlers.read import Token
from kubeling.apiserver.info import parse_path
from kubeling.apiserver.registry.store import unchanged
from kubeling.apiserver.request import warning_header
from kubeling.apiserver.storage.kv import prefix_end


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/pods", ("", "v1", "", "pods", "", "")),
        ("/api/v1/namespaces", ("", "v1", "", "namespaces", "", "")),
        ("/api/v1/namespaces/x", ("", "v1", "x", "namespaces", "x", "")),
        ("/api/v1/namespaces/x/status", ("", "v1", "x", "namespaces", "x", "status")),
        ("/api/v1/namespaces/x/pods/p/log", ("", "v1", "x", "pods", "p", "log")),
        ("/apis/apps/v1/namespaces/x/deployments/d/scale/", ("apps", "v1", "x", "deployments", "d", "scale")),
        ("/api/v1/nodes/n/proxy/a/b", ("", "v1", "", "nodes", "n", "proxy")),
        ("/api/v1/watch/namespaces/x/pods", ("", "v1", "x", "pods", "", "")),
        ("/apis/apps/v1", ("", "", "", "", "", "")),
        ("/healthz", ("", "", "", "", "", "")),
    ],
)
def test_paths(path, expected):
    info = parse_path(path)
    assert (info.group, info.version, info.namespace, info.resource, info.name, info.subresource) == expected


def test_verbs():
    assert parse_path("/api/v1/pods").verb("GET", True) == "watch"
    assert parse_path("/api/v1/pods").verb("DELETE", False) == "deletecollection"
    assert parse_path("/api/v1/namespaces/x/pods/p").verb("PUT", False) == "update"
    assert parse_path("/api/v1/namespaces/x/pods/p/log").verb("GET", True) == "get"
    assert parse_path("/api/v1/watch/pods").verb("GET", False) == "watch"


def test_negotiation_takes_the_first_that_it_knows():
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    assert negotiate.choose(table).transform == "Table"
    assert negotiate.choose("application/json;as=Table;v=v9;g=meta.k8s.io, application/json") == negotiate.PLAIN
    assert negotiate.choose("application/vnd.kubernetes.protobuf,application/json").form == "protobuf"
    assert negotiate.choose("application/vnd.kubernetes.protobuf;q=0.1,application/json") == negotiate.PLAIN
    assert negotiate.choose("application/cbor;q=1,application/json;q=0.9") == negotiate.PLAIN
    assert negotiate.choose("*/*") == negotiate.choose("") == negotiate.PLAIN
    with pytest.raises(ApiError, match="only the following media types"):
        negotiate.choose("text/html")


def test_prefixes():
    assert prefix_of(b"/registry/pods/default/p") == "/registry/pods/"
    assert prefix_of(b"/registry/example.com/widgets/default/w") == "/registry/example.com/widgets/"
    assert prefix_of(b"compact_rev_key") == ""
    assert prefix_of(b"\xff\xfe/a/b/c") in ("", "/a/", "/a/b/")
    assert prefix_end(b"/registry/pods/") == b"/registry/pods0"
    assert prefix_end(b"a\xff") == b"b"


def test_a_version_is_inserted_without_parsing():
    obj = {"kind": "Pod", "metadata": {"resourceVersion": "1", "name": 'a"metadata":{'}, "spec": {}, "apiVersion": "v1"}
    raw = encode(obj)
    head = head_of("v1", "Pod")
    assert raw.startswith(head)
    assert orjson.loads(with_revision(raw, head, 77)) == {**obj, "metadata": {**obj["metadata"], "resourceVersion": "77"}}
    foreign = orjson.dumps(obj)
    assert make_entry("k", foreign, 3, head, lambda found: {}).raw.startswith(head)


def test_a_write_of_the_same_in_another_order_is_no_write():
    one = {
        "apiVersion": "v1",
        "kind": "X",
        "metadata": {"name": "a", "managedFields": [{"time": "2026-01-01T00:00:00Z"}]},
        "a": 1,
        "b": 2,
    }
    two = {**one, "metadata": {**one["metadata"], "managedFields": [{"time": "2027-01-01T00:00:00Z"}]}}
    two["a"] = two.pop("a")
    two["metadata"]["resourceVersion"] = "7"
    assert unchanged(encode(two), two, encode(one))
    for other in ({**one, "a": 3}, {**one, "metadata": {**one["metadata"], "name": "b"}}):
        assert not unchanged(encode(other), other, encode(one))
    metadata = {"name": "a", "managedFields": [{"tome": "2026-01-01T00:00:00Z"}]}
    assert not unchanged(encode({**one, "metadata": metadata}), {**one, "metadata": metadata}, encode(one))


def entry(name: str, revision: int, **labels: str):
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}}
    return make_entry(name, encode(obj), revision, head_of("v1", "Pod"), lambda found: {"metadata.name": name})


async def test_a_slow_watcher_is_cut_off():
    watcher = Watcher(matches=None, encoder=None, after=0)
    for revision in range(1, MAX_EVENTS + 2):
        watcher.offer(Event("ADDED", revision, entry("a", revision), None, head_of("v1", "Pod"), 0))
    assert watcher.too_slow
    assert await watcher.next() is None


async def test_what_is_buffered_is_sent_before_the_end():
    watcher = Watcher(matches=None, encoder=None, after=5)
    head = head_of("v1", "Pod")
    waiting = asyncio.ensure_future(watcher.next())
    await asyncio.sleep(0)
    watcher.offer(Event("ADDED", 5, entry("old", 5), None, head, 0))
    watcher.offer(Event("ADDED", 6, entry("new", 6), None, head, 0))
    watcher.close(b"farewell")
    assert orjson.loads(await waiting)["object"]["metadata"] == {"name": "new", "labels": {}, "resourceVersion": "6"}
    assert await watcher.next() == b"farewell"
    assert await watcher.next() is None


def test_tokens():
    token = Token(17, "ns/name\0")
    assert (Token.decode(token.encode()).revision, Token.decode(token.encode()).start) == (17, "ns/name\0")
    for text in ("", "!", "AAAA", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiIn0"):
        with pytest.raises(ApiError, match="continue key is not valid"):
            Token.decode(text)


def test_yaml_is_read_as_kubernetes_does():
    assert yaml_body.load(b"a: 2026-01-01\non: yes\n1: x") == {"a": "2026-01-01", "true": True, "1": "x"}
    for bad in (
        b"a: &x 1\nb: *x",
        b"a: b: c",
        b"!!python/object:os.system {}",
        b"? [1]\n: 2",
        b"\x00",
        b"a: .nan" * 0 + b"[" * 3000,
    ):
        with pytest.raises(ApiError, match="error converting YAML to JSON"):
            yaml_body.load(bad)


def test_warnings_cannot_break_out_of_their_header():
    assert warning_header('a "b"\r\nset-cookie: c') == b'299 - "a \\"b\\"  set-cookie: c"'
