"""Sends cases and looks at what comes back: no 5xx, no hang, a Status for every refusal, and a server that is in order afterwards."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext, SSLError
from urllib.parse import quote, urlsplit

from tests.apiserver.fuzz.hostile import Case
from tests.apiserver.harness import Server
from tests.apiserver.plain import Plain, tls_of

#: A request that takes longer than this hangs. (The machine may be busy with other things.)
MAX_SECONDS = 15.0
#: What leads out of the server may find nobody there.
_OUTBOUND = ("/log", "/exec", "/attach", "/portforward", "/proxy", "/scheduling")
_SLOWEST = 8
#: Of an answer without end (a watch) so much is read.
_STREAM_SECONDS = 0.2
#: What is no whole request may never be answered.
_RAW_SECONDS = 0.5
#: A read of a revision that is yet to come has to wait, and may not wait for ever; upstream says it with these words.
_FUTURE = b"Too large resource version"


@dataclass
class Fault:
    """A case that was not answered as it should be."""

    why: str
    case: Case
    seed: str = ""
    answer: bytes = b""

    @property
    def what(self) -> str:
        """The same for cases that fail in the same way."""
        path = self.case.target.partition("?")[0].split("/")
        return f"{self.why} {self.case.method} {path[-2:] if path[-1:] != ['a'] else path[-3:]} {self.answer[:160]!r}"

    def __str__(self) -> str:
        case = self.case
        shown = (
            case.raw[:300] if case.raw is not None else f"{case.method} {case.target[:300]} {case.headers} {case.body[:600]!r}"
        )
        return f"{self.why} [{self.seed}]\n  {shown!r}\n  -> {self.answer[:600]!r}"


@dataclass
class Report:
    """What happened: statuses, faults, and the slowest requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Take in what another connection saw."""
        self.statuses += other.statuses
        self.faults += other.faults
        self.slow(*other.slowest)

    def slow(self, *taken: tuple[float, str]) -> None:
        """Remember the slowest requests. Where one holds up all others, they are those that began when it did, and it is among them."""
        self.slowest = sorted((*self.slowest, *taken), reverse=True)[:_SLOWEST]


class Target:
    """One connection at a time to one server, made anew whenever the server has closed it."""

    def __init__(self, server: Server, context: SSLContext | None = None) -> None:
        self._server = server
        where = urlsplit(server.url)
        self._address = (where.hostname or "", where.port or 0)
        self._tls = context or tls_of(server)
        self._socket: socket.socket | None = None
        self.report = Report()

    def send(self, case: Case, seed: str = "") -> int:
        """Send, check, count. The status; 0 where the connection was closed instead."""
        began = time.monotonic()
        answer = b""
        try:
            status, answer = self._exchange(case)
            why = _wrong(case, status, answer)
        except TimeoutError:
            # A server may wait for the rest of what was cut off.
            status, why = 0, f"no answer in {MAX_SECONDS} s" if case.raw is None else ""
            self.close()
        except (http.client.HTTPException, ValueError, OSError) as error:
            status, why = 0, "" if case.raw is not None else f"the connection broke: {error!r}"
            self.close()
        took = time.monotonic() - began
        self.report.statuses[status] += 1
        if not self.report.slowest or took > self.report.slowest[-1][0] or len(self.report.slowest) < _SLOWEST:
            self.report.slow(
                (took, f"{case.method} {case.target[:160]} {case.headers.get('content-type')} {case.body[:80]!r} [{seed}]")
            )
        if why:
            self.report.faults.append(Fault(why, case, seed, answer))
        return status

    def _exchange(self, case: Case) -> tuple[int, bytes]:
        raw = _encode(case)
        for fresh in (False, True):
            sock = self._connected()
            sock.settimeout(MAX_SECONDS if case.raw is None else _RAW_SECONDS)
            try:
                try:
                    sock.sendall(raw)
                except (ConnectionError, SSLError):
                    # The answer may be there all the same: the server did not read to the end.
                    if fresh is False and case.raw is None and not _readable(sock):
                        self.close()
                        continue
                return self._read(sock, case)
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
                if fresh or case.raw is not None:
                    raise
        raise AssertionError("unreachable")

    def _read(self, sock: socket.socket, case: Case) -> tuple[int, bytes]:
        answer = http.client.HTTPResponse(sock, method=case.method or None)
        answer.begin()
        stream = answer.chunked or answer.status == 101
        if stream:
            sock.settimeout(_STREAM_SECONDS)
        try:
            body = answer.read(1 << 20) if stream else answer.read()
        except TimeoutError:
            if not stream:
                raise
            body = b""
        if stream or answer.will_close or case.raw is not None:
            self.close()
        return answer.status, b"" if stream else body

    def _connected(self) -> socket.socket:
        if self._socket is None:
            plain = socket.create_connection(self._address, timeout=MAX_SECONDS)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = self._tls.wrap_socket(plain, server_hostname=self._address[0])
        return self._socket

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # What is looked at beside the answers

    def memory(self) -> float:
        """The server's own memory in MB."""
        text = Path(f"/proc/{self._server.daemon.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    def in_order(self) -> list[str]:
        """Every kind can be listed in every form, every object read, and written back as it is without a change. What is not so."""
        wrong: list[str] = []
        with Plain(self._server, self._tls) as client:
            for resource in _resources(client):
                wrong += _check(client, *resource)
            wrong += _addresses(client)
        return wrong


def _readable(sock: socket.socket) -> bool:
    sock.settimeout(0.2)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK)) if type(sock) is socket.socket else True
    except OSError:
        return False


def _encode(case: Case) -> bytes:
    if case.raw is not None:
        return case.raw
    lines = [f"{case.method} {case.target} HTTP/1.1", "host: h"]
    lines += [f"{key}: {value}" for key, value in case.headers.items()]
    if case.body or case.method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {len(case.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + case.body


def _wrong(case: Case, status: int, answer: bytes) -> str:
    """Why an answer is not as it should be; empty where it is."""
    path = case.target.partition("?")[0]
    allowed = (status == 504 and _FUTURE in answer) or (status in (502, 503, 504) and any(each in path for each in _OUTBOUND))
    if status >= 500 and not allowed:
        return f"status {status}"
    if status >= 400 and answer and case.method != "HEAD" and path.startswith(("/api/", "/apis/")):
        try:
            found = json.loads(answer)
            if (found["kind"], found["status"], found["code"]) != ("Status", "Failure", status) or not found["message"]:
                return "a refusal that is no proper Status"
        except (ValueError, KeyError, TypeError):
            return "a refusal that is no Status"
    return ""


def _resources(client: Plain) -> list[tuple[str, str]]:
    """Collections that can be listed: path and kind."""
    versions = ["/api/v1"] + [
        f"/apis/{version['groupVersion']}" for group in client("GET", "/apis")[1]["groups"] for version in group["versions"]
    ]
    found = []
    for base in versions:
        for each in client("GET", base)[1]["resources"]:
            if "list" in each["verbs"] and "/" not in each["name"]:
                found.append((f"{base}/{each['name']}", each["kind"]))
    return found


def _addresses(client: Plain) -> list[str]:
    """Whether the Services' addresses and the records of them are the same: they are written together or not at all."""
    recorded = {each["metadata"]["name"] for each in client("GET", "/apis/networking.k8s.io/v1/ipaddresses")[1]["items"]}
    held = set()
    for each in client("GET", "/api/v1/services")[1]["items"]:
        held.update(ip for ip in each["spec"].get("clusterIPs") or () if ip != "None")
    return [f"addresses and Services do not agree: {held ^ recorded}"] if held != recorded else []


_ACCEPTS = (
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/yaml",
    "application/vnd.kubernetes.protobuf,application/json",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
)
_READ_BACK = 40


def _check(client: Plain, path: str, kind: str) -> list[str]:
    wrong = []
    for accept in _ACCEPTS:
        client.http.request("GET", path, headers={"accept": accept})
        answer = client.http.getresponse()
        text = answer.read()
        if answer.status != 200:
            wrong.append(f"{path} as {accept}: {answer.status} {text[:200]!r}")
    status, listed = client("GET", path)
    if status != 200:
        return [*wrong, f"{path}: {status} {listed}"]
    base = path.rpartition("/")[0]
    for item in listed["items"][:_READ_BACK]:
        metadata = item["metadata"]
        inside = f"/namespaces/{metadata['namespace']}" if metadata.get("namespace") else ""
        where = f"{base}{inside}/{path.rpartition('/')[2]}/{quote(metadata['name'], safe=':')}"
        status, found = client("GET", where)
        if status != 200 or found["metadata"]["uid"] != metadata["uid"]:
            wrong.append(f"{where}: {status} {str(found)[:200]}")
            continue
        if kind in ("ComponentStatus", "PodMetrics", "NodeMetrics"):
            continue
        status, again = client("PUT", f"{where}?dryRun=All", found)
        if status not in (200, 405):
            wrong.append(f"{where}, written back: {status} {str(again)[:300]}")
    return wrong
