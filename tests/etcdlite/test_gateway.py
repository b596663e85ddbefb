"""The client port as HTTP: JSON under /v3/, pages, over HTTP/1.1 and HTTP/2, with and without TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from kubeling.etcdlite import backup, bolt
from kubeling.etcdlite.gateway import PATHS
from kubeling.proto import election_pb2, etcd_pb2, lock_pb2
from tests.ports import free_ports

from .members import Member, single
from .test_security import Authority

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("gateway")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def member(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Member]:
    async with single(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def web(member: Member) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{member.endpoint}", timeout=10, trust_env=False) as client:
        yield client


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def post(web: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await web.post(f"/v3/{path}", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    found.pop("header", None)
    return dict(found)


async def test_every_method_of_the_api_has_a_path() -> None:
    files = (etcd_pb2.DESCRIPTOR, lock_pb2.DESCRIPTOR, election_pb2.DESCRIPTOR)
    known = {
        (service.full_name, method.name)
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }
    # What was added after etcd 3.5 has none there either.
    assert known - set(PATHS.values()) <= {("etcdserverpb.KV", "RangeStream")}
    assert set(PATHS.values()) <= known


async def test_keys_and_transactions(web: httpx.AsyncClient) -> None:
    await post(web, "kv/put", key=b64("foo"), value=b64("bar"))
    answer = await web.post("/v3/kv/range", content=json.dumps({"key": b64("foo"), "unknown": 1}))
    assert re.fullmatch(
        r'\{"cluster_id":"\d+","member_id":"\d+","revision":"\d+","raft_term":"\d+"\}', _compact(answer.json()["header"])
    )
    [kv] = answer.json()["kvs"]
    assert (kv["value"], kv["version"], answer.json()["count"]) == (b64("bar"), "1", "1")
    done = await post(
        web,
        "kv/txn",
        compare=[{"key": b64("foo"), "target": "VERSION", "result": "EQUAL", "version": "1"}],
        success=[{"requestPut": {"key": b64("foo"), "value": b64("new")}}, {"request_range": {"key": b64("foo")}}],
    )
    assert done["succeeded"] is True
    assert done["responses"][1]["response_range"]["kvs"][0]["value"] == b64("new")
    assert await post(web, "kv/deleterange", key=b64("foo"), prev_kv=True) == {
        "deleted": "1",
        "prev_kvs": [done["responses"][1]["response_range"]["kvs"][0]],
    }


async def test_leases_by_new_and_old_paths(web: httpx.AsyncClient) -> None:
    assert await post(web, "lease/grant", TTL=60, ID="77") == {"ID": "77", "TTL": "60"}
    alive = await web.post("/v3/lease/keepalive", content='{"ID":"77"}{"ID":77}')
    assert [json.loads(line)["result"]["TTL"] for line in alive.text.splitlines()] == ["60", "60"]
    assert (await post(web, "kv/lease/timetolive", ID="77"))["grantedTTL"] == "60"
    assert await post(web, "lease/revoke", ID="77") == {}


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "words"),
    [
        ("kv/put", "{}", 400, 3, "etcdserver: key is not provided"),
        ("lease/revoke", '{"ID":"99"}', 404, 5, "etcdserver: requested lease not found"),
        ("kv/range", '{"key":"YQ==","revision":"999999"}', 400, 11, "etcdserver: mvcc: required revision is a future revision"),
        ("kv/put", "x", 400, 3, ""),
        ("kv/put", '{"key":5}', 400, 3, ""),
        ("kv/put", "[]", 400, 3, ""),
        ("kv/put", '{"key":"\xff"}', 400, 3, ""),
        ("kv/txn", '{"success":[{"request_txn":' * 200 + "{}" + "}]}" * 200, 400, 3, ""),
    ],
)
async def test_errors(web: httpx.AsyncClient, path: str, body: str, status: int, code: int, words: str) -> None:
    answer = await web.post(f"/v3/{path}", content=body.encode("latin-1"))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["error"] == answer.json()["message"]
    assert answer.json()["message"] == words or not words


async def test_what_is_not_there(web: httpx.AsyncClient) -> None:
    assert (await web.post("/v3/nothing", content="{}")).status_code == 404
    assert (await web.get("/nothing")).status_code == 404
    assert (await web.get("/v3/kv/put")).status_code == 405
    assert (await web.post("/v3/kv/put", content=b" " * (5 << 20))).status_code == 413


async def test_pages(web: httpx.AsyncClient) -> None:
    assert (await web.get("/health")).json() == {"health": "true", "reason": ""}
    assert set((await web.get("/version")).json()) == {"etcdserver", "etcdcluster"}
    assert "etcd_server_has_leader 1" in (await web.get("/metrics")).text
    assert (await web.head("/health")).content == b""


async def test_a_watch_is_a_line_an_answer_and_ends_with_its_client(web: httpx.AsyncClient, member: Member) -> None:
    request = json.dumps({"create_request": {"key": b64("w"), "range_end": b64("x"), "filters": ["NODELETE"]}})
    async with asyncio.timeout(10), web.stream("POST", "/v3/watch", content=request) as answer:
        lines = answer.aiter_lines()
        assert json.loads(await anext(lines))["result"]["created"] is True
        for number in range(50):
            await member.put(b"w%d" % number, b"value")
        seen: list[str] = []
        while len(seen) < 50:
            found = json.loads(await anext(lines))["result"]
            seen += [base64.b64decode(event["kv"]["key"]).decode() for event in found["events"]]
        assert seen == [f"w{number}" for number in range(50)]
        assert await _watchers(web) == 1
    async with asyncio.timeout(10):
        while True:
            if not await _watchers(web):
                break
            await asyncio.sleep(0.02)


async def _watchers(web: httpx.AsyncClient) -> int:
    text = (await web.get("/metrics")).text
    return int(float(re.search(r"^etcd_debugging_mvcc_watcher_total (\S+)", text, re.M)[1]))  # type: ignore[index]


async def test_a_snapshot_is_a_stream(web: httpx.AsyncClient) -> None:
    answer = await web.post("/v3/maintenance/snapshot", content="{}")
    pieces = [json.loads(line)["result"] for line in answer.text.splitlines()]
    data = b"".join(base64.b64decode(piece["blob"]) for piece in pieces)
    assert b"meta" in bolt.names(backup.check(data, "what came"))


async def test_requests_may_follow_each_other_without_waiting(member: Member) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", member.port)
    writer.write(
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 20 + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(10):
        everything = await reader.read()
    assert everything.count(b"HTTP/1.1 200") == 21
    writer.close()
    for noise in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", member.port)
        writer.write(noise)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert (await reader.read()).startswith((b"HTTP/1.1 4", b""))
        writer.close()


async def test_curl_over_http2_and_tls(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    ours.issue("client")
    port = free_ports(1)[0]
    flags = [
        f"--cert-file={ours.path('client')}",
        f"--key-file={ours.path('client', 'key')}",
        f"--trusted-ca-file={ours.path('ca')}",
    ]
    async with single(tmp_path) as member:
        await member.kill()
        await member.launch(*flags, f"--listen-client-urls=https://127.0.0.1:{port},http://{member.endpoint}")
        await member.wait_ready()

        def curl(*words: str) -> str:
            done = subprocess.run(["curl", "-sS", "-m", "10", *words], check=False, capture_output=True, text=True)
            return done.stdout + done.stderr

        def with_alpn(*offered: str) -> Callable[[], str | None]:
            def connect() -> str | None:
                context = ssl.create_default_context(cafile=ours.path("ca"))
                context.set_alpn_protocols(list(offered))

                with (
                    socket.create_connection(("127.0.0.1", port)) as raw,
                    context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
                ):
                    return tls.selected_alpn_protocol()

            return connect

        assert await asyncio.to_thread(with_alpn("h2", "http/1.1")) == "h2"
        assert await asyncio.to_thread(with_alpn("http/1.1")) == "http/1.1"
        secure = ["--cacert", ours.path("ca"), f"https://127.0.0.1:{port}/v3/kv/put", "-d", '{"key":"aw=="}']
        for version in ("--http1.1", "--http2"):
            assert '"revision"' in await asyncio.to_thread(curl, version, *secure)
        plain = ["--http2-prior-knowledge", f"http://{member.endpoint}/v3/kv/range", "-d", '{"key":"aw=="}']
        assert '"version":"2"' in await asyncio.to_thread(curl, *plain)
        assert (
            await asyncio.to_thread(curl, "--http2-prior-knowledge", f"http://{member.endpoint}/health")
            == '{"health":"true","reason":""}'
        )


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
