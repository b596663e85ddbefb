"""From a query to an answer, for the names that are ours. Pure but for the order of several addresses, which is rotated."""

from __future__ import annotations

import itertools
from collections import OrderedDict

from dnslib import AAAA, CNAME, EDNS0, NS, PTR, QTYPE, RCODE, RR, SOA, SRV, TXT, A, DNSError, DNSHeader, DNSRecord

from kubeling.dns.records import Name, Records

#: Seconds that an answer may be kept, and that a "no such name" may be.
TTL = 5
_PLAIN_UDP = 512
_MAX_UDP = 1232
_CACHED_ANSWERS = 4096


class NotOurs(Exception):
    """Somebody else is the authority for the name: forward the query."""


class Answerer:
    """Answers queries from `records`; `serial` is what the SOA shows."""

    def __init__(self, records: Records, *, serial: int = 1) -> None:
        self._records = records
        self._serial = serial
        self._turn = itertools.count()
        self._cache: OrderedDict[tuple[bytes, bool], bytes] = OrderedDict()
        self._cached_generation = -1

    def answer(self, packet: bytes, *, udp: bool) -> bytes | None:
        """The packet to send back, None for what deserves none. Raises NotOurs for names of others."""
        if self._cached_generation != self._records.generation:
            self._cache.clear()
            self._cached_generation = self._records.generation
        cached = self._cache.get((packet[2:], udp))
        if cached is not None:
            return packet[:2] + cached
        try:
            query = DNSRecord.parse(packet)
        except (DNSError, ValueError, IndexError, UnicodeError):
            return refusal(packet, RCODE.FORMERR)
        if query.header.qr:
            return None
        if query.header.opcode != 0 or len(query.questions) != 1:
            return refusal(packet, RCODE.NOTIMP if query.header.opcode else RCODE.FORMERR)
        reply, repeatable = self._reply(query)
        packed = pack(query, reply, udp=udp)
        if repeatable:
            self._cache[packet[2:], udp] = packed[2:]
            while len(self._cache) > _CACHED_ANSWERS:
                self._cache.popitem(last=False)
        return packed

    def _reply(self, query: DNSRecord) -> tuple[DNSRecord, bool]:
        question = query.q
        name = str(question.qname).rstrip(".").lower()
        if not self._records.is_ours(name):
            raise NotOurs(name)
        reply = query.reply(ra=1, aa=1)
        found = self._records.find(name)
        if found is None:
            reply.header.rcode = RCODE.NXDOMAIN
            reply.add_auth(self._soa())
            return reply, True
        repeatable = self._fill(reply, name, found, QTYPE[question.qtype])
        if not reply.rr:
            reply.add_auth(self._soa())
        return reply, repeatable

    def _fill(self, reply: DNSRecord, name: str, found: Name, kind: str) -> bool:
        """Add the records of `kind`; False where their order changes from answer to answer."""
        if found.cname:
            reply.add_answer(RR(name, QTYPE.CNAME, ttl=TTL, rdata=CNAME(found.cname)))
            target = self._records.find(found.cname) if self._records.is_ours(found.cname) else None
            if target is not None and kind in ("A", "AAAA") and not target.cname:
                self._fill(reply, found.cname, target, kind)
            return False
        repeatable = True
        if kind in ("A", "ANY"):
            for address in self._rotated(found.v4):
                reply.add_answer(RR(name, QTYPE.A, ttl=TTL, rdata=A(address)))
            repeatable = len(found.v4) < 2
        if kind in ("AAAA", "ANY"):
            for address in self._rotated(found.v6):
                reply.add_answer(RR(name, QTYPE.AAAA, ttl=TTL, rdata=AAAA(address)))
            repeatable = repeatable and len(found.v6) < 2
        if kind in ("SRV", "ANY"):
            weight = 100 // max(len(found.srv), 1)
            for service in found.srv:
                reply.add_answer(RR(name, QTYPE.SRV, ttl=TTL, rdata=SRV(0, weight, service.port, service.host)))
                host = self._records.find(service.host)
                for address in host.v4 if host else ():
                    reply.add_ar(RR(service.host, QTYPE.A, ttl=TTL, rdata=A(address)))
                for address in host.v6 if host else ():
                    reply.add_ar(RR(service.host, QTYPE.AAAA, ttl=TTL, rdata=AAAA(address)))
        if kind in ("PTR", "ANY"):
            for pointed in found.ptr:
                reply.add_answer(RR(name, QTYPE.PTR, ttl=TTL, rdata=PTR(pointed)))
        if kind in ("TXT", "ANY"):
            for text in found.txt:
                reply.add_answer(RR(name, QTYPE.TXT, ttl=TTL, rdata=TXT(text)))
        if name == self._records.domain and kind in ("SOA", "NS", "ANY"):
            if kind != "NS":
                reply.add_answer(self._soa())
            if kind != "SOA":
                reply.add_answer(RR(name, QTYPE.NS, ttl=TTL, rdata=NS(f"ns.dns.{self._records.domain}")))
        return repeatable

    def _rotated(self, addresses: list[str]) -> list[str]:
        if len(addresses) < 2:
            return addresses
        turn = next(self._turn) % len(addresses)
        return addresses[turn:] + addresses[:turn]

    def _soa(self) -> RR:
        domain = self._records.domain
        times = (self._serial, 7200, 1800, 86400, TTL)
        return RR(domain, QTYPE.SOA, ttl=TTL, rdata=SOA(f"ns.dns.{domain}", f"hostmaster.{domain}", times))


def pack(query: DNSRecord, reply: DNSRecord, *, udp: bool) -> bytes:
    """The reply as bytes; over UDP cut to what the client takes, with the flag that sends it to TCP."""
    limit = 65535
    edns = next((each for each in query.ar if each.rtype == QTYPE.OPT), None)
    if edns is not None:
        reply.add_ar(EDNS0(udp_len=_MAX_UDP))
    if udp:
        limit = min(max(int(edns.rclass), _PLAIN_UDP), _MAX_UDP) if edns is not None else _PLAIN_UDP
    packed = bytes(reply.pack())
    if len(packed) > limit:
        reply.ar = [each for each in reply.ar if each.rtype == QTYPE.OPT]
        packed = bytes(reply.pack())
    if len(packed) > limit:
        return bytes(reply.truncate().pack())
    return packed


def refusal(packet: bytes, code: int) -> bytes | None:
    """An answer without records that says why; None for what is too short to answer."""
    if len(packet) < 12:
        return None
    header = DNSHeader(id=int.from_bytes(packet[:2], "big"), qr=1, ra=1, rcode=code)
    return bytes(DNSRecord(header).pack())
