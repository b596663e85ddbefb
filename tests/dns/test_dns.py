"""Names by the Kubernetes DNS specification, over real sockets, asked with a resolver of the same library and with dig where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import shutil
import socket
from collections.abc import AsyncIterator

import pytest
from dnslib import EDNS0, QTYPE, RCODE, DNSRecord

from kubeling.dns.answers import Answerer
from kubeling.dns.forward import Forwarder
from kubeling.dns.records import Records
from kubeling.dns.server import Server
from tests.ports import free_port


def reverse(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer


WEB = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
}
DB = {
    "metadata": {"name": "db", "namespace": "default"},
    "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]},
}
DB_SLICE = {
    "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
    "endpoints": [
        {"addresses": ["10.244.1.5"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["10.244.1.6"], "conditions": {"ready": True}},
        {"addresses": ["10.244.1.7"], "hostname": "db-2", "conditions": {"ready": False}},
    ],
}
ELSEWHERE = {
    "metadata": {"name": "ext", "namespace": "default"},
    "spec": {"type": "ExternalName", "externalName": "web.default.svc.cluster.local"},
}


BOTH = {
    "metadata": {"name": "both", "namespace": "default"},
    "spec": {
        "clusterIP": "10.96.0.21",
        "clusterIPs": ["10.96.0.21", "fd00:10:96::21"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    },
}
BOTH_PODS = {"metadata": {"name": "pods", "namespace": "default"}, "spec": DB["spec"]}
BOTH_SLICES = [
    {**DB_SLICE, "endpoints": [{"addresses": ["10.244.2.5"], "hostname": "a"}, {"addresses": ["10.244.2.6"]}]},
    {**DB_SLICE, "endpoints": [{"addresses": ["fd00:10:244:2::5"], "hostname": "a"}, {"addresses": ["fd00:10:244:2::6"]}]},
]


def records() -> Records:
    made = Records("cluster.local")
    made.set_service(WEB, ("default", "web"), [])
    made.set_service(DB, ("default", "db"), [DB_SLICE])
    made.set_service(ELSEWHERE, ("default", "ext"), [])
    made.set_service(BOTH, ("default", "both"), [])
    made.set_service(BOTH_PODS, ("default", "pods"), BOTH_SLICES)
    made.set_namespaces(["default"])
    return made


def ask(answerer: Answerer, name: str, kind: str = "A") -> tuple[str, list[str]]:
    packed = answerer.answer(bytes(DNSRecord.question(name, kind).pack()), udp=True)
    assert packed is not None
    reply = DNSRecord.parse(packed)
    return RCODE[reply.header.rcode], sorted(f"{QTYPE[rr.rtype]} {rr.rdata}" for rr in reply.rr)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.default.svc.cluster.local", "A", ("NOERROR", ["A 10.96.0.20"])),
        ("WEB.default.svc.Cluster.Local", "A", ("NOERROR", ["A 10.96.0.20"])),
        ("web.default.svc.cluster.local", "AAAA", ("NOERROR", [])),
        ("_http._tcp.web.default.svc.cluster.local", "SRV", ("NOERROR", ["SRV 0 100 80 web.default.svc.cluster.local."])),
        ("db.default.svc.cluster.local", "A", ("NOERROR", ["A 10.244.1.5", "A 10.244.1.6"])),
        ("db-0.db.default.svc.cluster.local", "A", ("NOERROR", ["A 10.244.1.5"])),
        ("10-244-1-6.db.default.svc.cluster.local", "A", ("NOERROR", ["A 10.244.1.6"])),
        ("db-2.db.default.svc.cluster.local", "A", ("NXDOMAIN", [])),
        ("20.0.96.10.in-addr.arpa", "PTR", ("NOERROR", ["PTR web.default.svc.cluster.local."])),
        ("5.1.244.10.in-addr.arpa", "PTR", ("NOERROR", ["PTR db-0.db.default.svc.cluster.local."])),
        ("ext.default.svc.cluster.local", "A", ("NOERROR", ["A 10.96.0.20", "CNAME web.default.svc.cluster.local."])),
        ("10-244-1-9.default.pod.cluster.local", "A", ("NOERROR", ["A 10.244.1.9"])),
        ("10-244-1-9.nowhere.pod.cluster.local", "A", ("NXDOMAIN", [])),
        ("default.svc.cluster.local", "A", ("NOERROR", [])),
        ("nothing.default.svc.cluster.local", "A", ("NXDOMAIN", [])),
        ("both.default.svc.cluster.local", "A", ("NOERROR", ["A 10.96.0.21"])),
        ("both.default.svc.cluster.local", "AAAA", ("NOERROR", ["AAAA fd00:10:96::21"])),
        ("pods.default.svc.cluster.local", "AAAA", ("NOERROR", ["AAAA fd00:10:244:2::5", "AAAA fd00:10:244:2::6"])),
        ("a.pods.default.svc.cluster.local", "A", ("NOERROR", ["A 10.244.2.5"])),
        ("a.pods.default.svc.cluster.local", "AAAA", ("NOERROR", ["AAAA fd00:10:244:2::5"])),
        ("fd00-10-244-2--6.pods.default.svc.cluster.local", "AAAA", ("NOERROR", ["AAAA fd00:10:244:2::6"])),
        (
            "_sql._tcp.pods.default.svc.cluster.local",
            "SRV",
            (
                "NOERROR",
                [f"SRV 0 33 5432 {host}.pods.default.svc.cluster.local." for host in ("10-244-2-6", "a", "fd00-10-244-2--6")],
            ),
        ),
        (reverse("fd00:10:96::21"), "PTR", ("NOERROR", ["PTR both.default.svc.cluster.local."])),
        (reverse("fd00:10:244:2::5"), "PTR", ("NOERROR", ["PTR a.pods.default.svc.cluster.local."])),
        ("fd00-10-244-1--9.default.pod.cluster.local", "AAAA", ("NOERROR", ["AAAA fd00:10:244:1::9"])),
        ("fd00-10--244-1--9.default.pod.cluster.local", "AAAA", ("NXDOMAIN", [])),
        ("dns-version.cluster.local", "TXT", ("NOERROR", ['TXT "1.1.0"'])),
    ],
)
def test_names(name: str, kind: str, expected: tuple[str, list[str]]) -> None:
    assert ask(Answerer(records()), name, kind) == expected


def test_a_change_is_seen_by_the_next_query_although_answers_are_cached() -> None:
    known = records()
    answerer = Answerer(known)
    assert ask(answerer, "web.default.svc.cluster.local")[0] == "NOERROR"
    known.set_service(None, ("default", "web"), [])
    assert ask(answerer, "web.default.svc.cluster.local") == ("NXDOMAIN", [])
    assert ask(answerer, "_tcp.web.default.svc.cluster.local") == ("NXDOMAIN", [])


@contextlib.asynccontextmanager
async def serving(known: Records) -> AsyncIterator[int]:
    # A port that is free for UDP may be taken for TCP, or taken meanwhile: then another is tried.
    for _ in range(20):
        port = free_port()
        listening = asyncio.Event()
        task = asyncio.ensure_future(
            Server(Answerer(known), Forwarder([]), lambda: True).run("127.0.0.1", port, listening=listening)
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


async def test_a_large_answer_is_truncated_over_udp_and_whole_over_tcp() -> None:
    known = records()
    many = {**DB_SLICE, "endpoints": [{"addresses": [f"10.244.2.{n}"], "conditions": {"ready": True}} for n in range(1, 200)]}
    known.set_service(DB, ("default", "db"), [many])
    async with serving(known) as port:
        question = DNSRecord.question("db.default.svc.cluster.local")
        over_udp = DNSRecord.parse(await asyncio.to_thread(question.send, "127.0.0.1", port, timeout=3))
        assert over_udp.header.tc == 1
        # Resolvers take no notice of an answer without their question.
        assert over_udp.q == question.q
        over_tcp = DNSRecord.parse(await asyncio.to_thread(question.send, "127.0.0.1", port, tcp=True, timeout=3))
        assert len(over_tcp.rr) == 199


async def test_garbage_gets_an_error_and_the_server_goes_on() -> None:
    async with serving(records()) as port:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(3)
            client.connect(("127.0.0.1", port))
            for garbage in (b"", b"x", b"\x00" * 11, b"\xff" * 40, b"\x12\x34" + b"\x00\x00\x00\x05" + b"\xc0\x0c" * 20):
                client.send(garbage)
            client.send(DNSRecord.question("web.default.svc.cluster.local", "A").pack())
            while True:
                reply = await asyncio.to_thread(client.recv, 4096)
                if len(reply) > 12 and DNSRecord.parse(reply).rr:
                    break


@pytest.mark.skipif(shutil.which("dig") is None, reason="needs dig")
async def test_dig_is_content() -> None:
    async with serving(records()) as port:
        process = await asyncio.create_subprocess_exec(
            "dig", "@127.0.0.1", "-p", str(port), "web.default.svc.cluster.local", stdout=asyncio.subprocess.PIPE
        )
        out = (await process.communicate())[0].decode()
        assert "status: NOERROR" in out
        assert "10.96.0.20" in out
        assert "Malformed" not in out


@pytest.mark.parametrize("edns", [False, True])
async def test_a_refusal_repeats_the_question(edns: bool) -> None:
    """Go's resolver, and others, wait in vain for one that has no question; and what was asked by EDNS is answered by EDNS (RFC 6891)."""
    question = DNSRecord.question("Elsewhere.example.com", "AAAA")
    if edns:
        question.add_ar(EDNS0(udp_len=1232))
    async with serving(records()) as port:
        for tcp in (False, True):
            refused = DNSRecord.parse(await asyncio.to_thread(question.send, "127.0.0.1", port, tcp=tcp, timeout=3))
            assert (refused.header.rcode, refused.header.rd, refused.questions) == (RCODE.REFUSED, 1, question.questions)
            assert [each.rtype for each in refused.ar] == [QTYPE.OPT] * edns


def test_nothing_is_said_to_be_validated_and_no_address_is_said_twice() -> None:
    question = DNSRecord.question("_sql._tcp.pods.default.svc.cluster.local", "SRV")
    question.header.ad = 1
    found = DNSRecord.parse(Answerer(records()).answer(bytes(question.pack()), udp=True) or b"")
    assert found.header.ad == 0
    assert found.ar
    assert len({str(each) for each in found.ar}) == len(found.ar)
