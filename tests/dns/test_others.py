"""Names of others: forwarded, cached with what is left of their time, followed for aliases of ours; another server of ours plays the others."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from kubeling.dns import forward
from kubeling.dns.answers import Answerer
from kubeling.dns.forward import Forwarder
from kubeling.dns.records import Records
from kubeling.dns.server import Server
from kubeling.tests.ports import free_port

Obj = dict[str, Any]


def external(name: str, target: str) -> Obj:
    return {"metadata": {"name": name, "namespace": "x"}, "spec": {"type": "ExternalName", "externalName": target}}


def headless(count: int) -> tuple[Obj, list[Obj]]:
    endpoints = [{"addresses": [f"10.9.{number // 250}.{number % 250 + 1}"]} for number in range(count)]
    service = {"metadata": {"name": "many", "namespace": "x"}, "spec": {"clusterIP": "None"}}
    return service, [{"ports": [{"name": "p", "port": 80}], "endpoints": endpoints}]


@contextlib.asynccontextmanager
async def serving(records: Records, forwarder: Forwarder) -> AsyncIterator[int]:
    for _ in range(20):
        port, listening = free_port(), asyncio.Event()
        task = asyncio.ensure_future(
            Server(Answerer(records), forwarder, lambda: True).run("127.0.0.1", port, listening=listening)
        )
        waiter = asyncio.ensure_future(listening.wait())
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if not task.done():
            break
    try:
        yield port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    theirs, ours = Records("example.test"), Records("cluster.local")
    theirs.set_service({"metadata": {"name": "web", "namespace": "x"}, "spec": {"clusterIP": "192.0.2.7"}}, ("x", "web"), [])
    theirs.set_service(*_keyed(*headless(300)))
    for name, target in (
        ("out", "web.x.svc.example.test"),
        ("twice", "out.x.svc.cluster.local"),
        ("lost", "nothing.x.svc.example.test"),
        ("gone", "nothing.x.svc.cluster.local"),
        ("round", "round.x.svc.cluster.local"),
    ):
        ours.set_service(external(name, target), ("x", name), [])
    async with serving(theirs, Forwarder([])) as upstream, serving(ours, Forwarder(["127.0.0.1"], port=upstream)) as found:
        yield found


def _keyed(service: Obj, slices: list[Obj]) -> tuple[Obj, tuple[str, str], list[Obj]]:
    return service, ("x", service["metadata"]["name"]), slices


async def ask(port: int, name: str, kind: str = "A", *, tcp: bool = False) -> DNSRecord:
    question = DNSRecord.question(name, kind)
    return DNSRecord.parse(await asyncio.to_thread(question.send, "127.0.0.1", port, tcp=tcp, timeout=5))


@pytest.mark.parametrize(
    ("name", "kind", "code", "records"),
    [
        ("out.x.svc.cluster.local", "A", "NOERROR", ["CNAME web.x.svc.example.test.", "A 192.0.2.7"]),
        ("out.x.svc.cluster.local", "CNAME", "NOERROR", ["CNAME web.x.svc.example.test."]),
        ("out.x.svc.cluster.local", "AAAA", "NOERROR", ["CNAME web.x.svc.example.test."]),
        (
            "twice.x.svc.cluster.local",
            "A",
            "NOERROR",
            ["CNAME out.x.svc.cluster.local.", "CNAME web.x.svc.example.test.", "A 192.0.2.7"],
        ),
        ("lost.x.svc.cluster.local", "A", "NXDOMAIN", ["CNAME nothing.x.svc.example.test."]),
        ("gone.x.svc.cluster.local", "A", "NXDOMAIN", ["CNAME nothing.x.svc.cluster.local."]),
        ("round.x.svc.cluster.local", "A", "NOERROR", ["CNAME round.x.svc.cluster.local."] * 8),
        ("web.x.svc.example.test", "A", "NOERROR", ["A 192.0.2.7"]),
        ("nothing.x.svc.example.test", "A", "NXDOMAIN", []),
    ],
)
async def test_aliases_and_names_of_others(port: int, name: str, kind: str, code: str, records: list[str]) -> None:
    reply = await ask(port, name, kind)
    assert (RCODE[reply.header.rcode], [f"{QTYPE[rr.rtype]} {rr.rdata}" for rr in reply.rr]) == (code, records)


async def test_a_large_answer_of_others_comes_whole_over_tcp(port: int) -> None:
    assert (await ask(port, "many.x.svc.example.test")).header.tc
    whole = await ask(port, "many.x.svc.example.test", tcp=True)
    assert (whole.header.tc, len(whole.rr)) == (0, 300)
    # What was kept of it is not given to who asks over UDP.
    assert (await ask(port, "many.x.svc.example.test")).header.tc


def test_what_is_kept_grows_older() -> None:
    reply = DNSRecord.question("a.example.test").reply()
    reply.add_answer(RR("a.example.test", ttl=30, rdata=A("192.0.2.1")), RR("b.example.test", ttl=3, rdata=A("192.0.2.2")))
    packed = bytes(reply.pack())
    aged = DNSRecord.parse(packed[:2] + forward._aged(packed[2:], 10))
    assert [rr.ttl for rr in aged.rr] == [20, 0]
    assert [str(rr.rdata) for rr in aged.rr] == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.skipif(shutil.which("dig") is None, reason="needs dig")
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["out.x.svc.cluster.local", "+edns=1", "+noednsnegotiation"], "status: BADVERS"),
        (["out.x.svc.cluster.local", "CH"], "status: REFUSED"),
        (["cluster.local", "AXFR"], "Transfer failed"),
        (["out.x.svc.cluster.local", "+dnssec"], "flags: do"),
        (["cluster.local", "SOA"], "ns.dns.cluster.local. hostmaster.cluster.local."),
        (["many.x.svc.example.test"], "ANSWER: 300"),
    ],
)
async def test_what_dig_is_told(port: int, flags: list[str], expected: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "dig", "@127.0.0.1", "-p", str(port), "+time=5", *flags, stdout=asyncio.subprocess.PIPE
    )
    said = (await process.communicate())[0].decode()
    assert expected in said, said
    assert "Malformed" not in said
    assert "parser" not in said
