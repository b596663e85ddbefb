"""What is noted of one request on its way, and the events that are made of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from kubeling.api.errors import ApiError
from kubeling.api.times import format_micro_time
from kubeling.apiserver.audit.policy import Decision
from kubeling.apiserver.authn.user import User

if TYPE_CHECKING:
    from kubeling.apiserver.request import Request

_PROTOBUF = b"k8s\0"
_MAX_OBJECT = 3 * 1024 * 1024


class Record:
    """Of one request. `write` gets a line for each stage that the policy wants."""

    def __init__(self, request: Request, decision: Decision, write: Callable[[bytes], None]) -> None:
        self._request = request
        self._decision = decision
        self._write = write
        self._level = decision.level
        self._began = request.clock.now()
        self.id = request.header(b"audit-id")[:64] or str(uuid.uuid4())
        self.headers = ((b"audit-id", self.id.encode("latin-1")),)
        self._sent: bytes = b""
        self._answer: bytes = b""
        self._done = False

    def sent(self, body: bytes) -> None:
        """What the client has sent."""
        if self._level in ("Request", "RequestResponse"):
            self._sent = body

    @property
    def wants_answer(self) -> bool:
        """Whether the whole answer is wanted, also where it is a good one."""
        return self._level == "RequestResponse"

    def answered(self, body: bytes) -> None:
        """What it gets."""
        if self._level == "RequestResponse" or self._request.status >= 400:
            self._answer = body

    def received(self) -> None:
        self._event("RequestReceived")

    def started(self) -> None:
        """A long answer begins."""
        self._event("ResponseStarted")

    def complete(self) -> None:
        """The request is over, one way or another."""
        if not self._done:
            self._done = True
            self._event("ResponseComplete")

    def _event(self, stage: str) -> None:
        if self._level == "None" or stage in self._decision.omitted:
            return
        request, info = self._request, self._request.info
        event: dict[str, Any] = {"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": self._level, "auditID": self.id}
        event["stage"] = stage
        query = request.scope["query_string"].decode("latin-1")
        event["requestURI"] = request.scope["path"] + (f"?{query}" if query else "")
        event["verb"] = request.verb
        user = request.user
        original = user.impersonator or user
        event["user"] = _user(original)
        if user.impersonator is not None:
            event["impersonatedUser"] = _user(user)
        event["sourceIPs"] = _addresses(request)
        agent = request.header(b"user-agent")
        if agent:
            event["userAgent"] = agent[:1024]
        sent = _parsed(self._sent) if stage != "RequestReceived" else None
        if info.resource:
            event["objectRef"] = _reference(request, sent)
        if stage != "RequestReceived":
            answer = _parsed(self._answer)
            if request.status:
                event["responseStatus"] = _status(request.status, answer)
            if sent is not None and self._level in ("Request", "RequestResponse"):
                event["requestObject"] = self._shown(sent)
            if answer is not None and self._level == "RequestResponse":
                event["responseObject"] = self._shown(answer)
        event["requestReceivedTimestamp"] = format_micro_time(self._began)
        event["stageTimestamp"] = format_micro_time(request.clock.now())
        if stage != "RequestReceived" and request.annotations:
            event["annotations"] = request.annotations
        self._write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))

    def _shown(self, obj: Any) -> Any:
        if not self._decision.without_managed_fields or not isinstance(obj, dict):
            return obj
        items = obj.get("items")
        for each in [obj, *(items if isinstance(items, list) else ())]:
            metadata = each.get("metadata") if isinstance(each, dict) else None
            if isinstance(metadata, dict):
                metadata.pop("managedFields", None)
        return obj


def _user(user: User) -> dict[str, object]:
    return user.info()


def _addresses(request: Request) -> list[str]:
    """Those that proxies say they had the request from, then who is connected."""
    found = [each.strip() for each in request.header(b"x-forwarded-for").split(",") if each.strip()]
    client = request.scope.get("client")
    if client and (not found or found[-1] != client[0]):
        found.append(client[0])
    return found[:16]


def _reference(request: Request, sent: Any) -> dict[str, str]:
    info = request.info
    found = {"resource": info.resource, "namespace": info.namespace, "name": info.name}
    metadata = sent.get("metadata") if isinstance(sent, dict) else None
    if isinstance(metadata, dict):
        for key, field in (("name", "name"), ("uid", "uid"), ("resourceVersion", "resourceVersion")):
            value = metadata.get(field)
            if isinstance(value, str) and value and not found.get(key):
                found[key] = value
    found |= {"apiGroup": info.group, "apiVersion": info.version, "subresource": info.subresource}
    return {key: value for key, value in found.items() if value}


def _status(code: int, answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"metadata": {}}
    if code >= 400 and isinstance(answer, dict) and answer.get("kind") == "Status":
        for key in ("status", "message", "reason", "details"):
            if answer.get(key):
                found[key] = answer[key]
    found["code"] = code
    return found


def _parsed(body: bytes) -> Any:
    """A body as an object; None where it is none, or too large to be repeated."""
    if not body or len(body) > _MAX_OBJECT:
        return None
    try:
        if body.startswith(_PROTOBUF):
            from kubeling.api import protobuf

            return protobuf.decode(body)
        return orjson.loads(body)
    except (orjson.JSONDecodeError, ApiError):
        return None
