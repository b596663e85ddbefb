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


_CHAIN = 8
_INTERNET, _ANY_CLASS, _TRANSFERS = 1, 255, (251, 252)
_BAD_VERSION = 16


class NotOurs(Exception):
    """Somebody else is the authority for the name: forward the query."""


class Elsewhere(Exception):
    """Our part of the answer is an alias for a name of somebody else: stub resolvers do not follow it themselves, so `question` has to be forwarded."""

    def __init__(self, query: DNSRecord, reply: DNSRecord, target: str) -> None:
        super().__init__(target)
        self._query, self._reply = query, reply
        self.question = bytes(DNSRecord.question(target, QTYPE[query.q.qtype]).pack())

    def answer(self, found: bytes | None, *, udp: bool) -> bytes:
        """The whole answer, with what was `found` for the question."""
        try:
            theirs = DNSRecord.parse(found or b"")
        except (DNSError, ValueError, IndexError, UnicodeError):
            theirs = DNSRecord(DNSHeader(rcode=RCODE.SERVFAIL))
        self._reply.header.rcode = theirs.header.rcode
        self._reply.add_answer(*theirs.rr)
        self._reply.add_auth(*(each for each in theirs.auth if each.rtype == QTYPE.SOA))
        return pack(self._query, self._reply, udp=udp)


class Answerer:
    """Answers queries from `records`; `serial` is what the SOA shows."""

    def __init__(self, records: Records, *, serial: int = 1) -> None:
        self._records = records
        self._serial = serial
        self._turn = itertools.count()
        self._cache: OrderedDict[tuple[bytes, bool], bytes] = OrderedDict()
        self._cached_generation = -1

    def answer(self, packet: bytes, *, udp: bool) -> bytes | None:
        """The packet to send back, None for what deserves none. Raises NotOurs for names of others, Elsewhere for aliases of them."""
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
        if (edns := _edns(query)) is not None and edns.edns_ver:
            return query.reply(aa=0), True
        if not self._records.is_ours(name):
            raise NotOurs(name)
        reply = query.reply(ra=1, aa=1)
        reply.header.ad = 0  # Copied from a query that asks for it; nothing here was validated.
        if question.qclass not in (_INTERNET, _ANY_CLASS) or question.qtype in _TRANSFERS:
            reply.header.aa, reply.header.rcode = 0, RCODE.REFUSED
            return reply, True
        found = self._records.find(name)
        if found is None:
            reply.header.rcode = RCODE.NXDOMAIN
            reply.add_auth(self._soa())
            return reply, True
        kind = QTYPE[question.qtype]
        if found.cname:
            name, known = self._follow(reply, name, found, kind)
            if known is None and kind in ("CNAME", "ANY"):
                return reply, True
            if known is None and not self._records.is_ours(name):
                raise Elsewhere(query, reply, name)
            if known is None:
                reply.header.rcode = RCODE.NXDOMAIN
            found = known or Name()
        before = len(reply.rr)
        repeatable = self._fill(reply, name, found, kind)
        if len(reply.rr) == before:
            reply.add_auth(self._soa())
        return reply, repeatable

    def _follow(self, reply: DNSRecord, name: str, found: Name, kind: str) -> tuple[str, Name | None]:
        """Add the aliases that begin at `name`; returns where they lead, and what is known there (None where it is not ours, or not there)."""
        for _ in range(_CHAIN):
            reply.add_answer(RR(name, QTYPE.CNAME, ttl=TTL, rdata=CNAME(found.cname)))
            name = found.cname
            target = self._records.find(name) if self._records.is_ours(name) and kind not in ("CNAME", "ANY") else None
            if target is None or not target.cname:
                return name, target
            found = target
        return name, Name()

    def _fill(self, reply: DNSRecord, name: str, found: Name, kind: str) -> bool:
        """Add the records of `kind`; False where their order changes from answer to answer."""
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


def _edns(query: DNSRecord) -> RR | None:
    return next((each for each in query.ar if each.rtype == QTYPE.OPT), None)


def pack(query: DNSRecord, reply: DNSRecord, *, udp: bool) -> bytes:
    """The reply as bytes; over UDP cut to what the client takes, with the flag that sends it to TCP."""
    limit = 65535
    edns = _edns(query)
    if edns is not None:
        code = _BAD_VERSION if edns.edns_ver else 0
        reply.add_ar(EDNS0(udp_len=_MAX_UDP, ext_rcode=code >> 4, flags="do" if edns.edns_do else ""))
    if udp:
        limit = min(max(int(edns.rclass), _PLAIN_UDP), _MAX_UDP) if edns is not None else _PLAIN_UDP
    packed = bytes(reply.pack())
    if len(packed) > limit:
        reply.ar = [each for each in reply.ar if each.rtype == QTYPE.OPT]
        packed = bytes(reply.pack())
    if len(packed) > limit:
        # The question stays: resolvers compare it, and take no notice of an answer without one.
        reply.rr, reply.auth = [], []
        reply.header.tc = 1
        packed = bytes(reply.pack())
    return packed


def refusal(packet: bytes, code: int) -> bytes | None:
    """An answer without records that says why; None for what is too short to answer.

    It has the question in it wherever that can be read: many resolvers (Go's, for one) take no notice of an answer without it, and wait until their time is up.
    """
    if len(packet) < 12:
        return None
    try:
        query = DNSRecord.parse(packet)
    except (DNSError, ValueError, IndexError, UnicodeError):
        return bytes(DNSRecord(DNSHeader(id=int.from_bytes(packet[:2], "big"), qr=1, ra=1, rcode=code)).pack())
    reply = DNSRecord(DNSHeader(id=query.header.id, opcode=query.header.opcode, rd=query.header.rd, qr=1, ra=1, aa=0, rcode=code))
    reply.add_question(*query.questions)
    return pack(query, reply, udp=False)
