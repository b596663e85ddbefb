"""get and list."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from kubeling.api import errors, fields, labels
from kubeling.apiserver import convert
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import lists
from kubeling.apiserver.handlers.common import respond_stored, store_of
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.store import MAX_VERSION, Store, parse_integer, parse_version
from kubeling.apiserver.request import Request

Matches = Callable[[Entry], bool]


async def get(context: Context, request: Request, served: Served) -> None:
    """One object."""
    info = request.info
    entry = await store_of(served).read(info.namespace, info.name, request.query.get("resourceVersion", ""))
    await respond_stored(request, served, entry)


class Selection:
    """The selectors of a list, watch or deletecollection. `matches` is None where everything is selected."""

    __slots__ = ("field", "label", "matches")

    def __init__(self, request: Request, served: Served) -> None:
        try:
            self.label = labels.parse(request.query.get("labelSelector", ""))
        except ValueError as error:
            raise errors.bad_request(f"unable to parse requirement: {error}") from error
        try:
            self.field = fields.parse(request.query.get("fieldSelector", ""))
        except ValueError as error:
            raise errors.bad_request(str(error)) from error
        if request.info.name:
            own = fields.FieldRequirement("metadata.name", request.info.name)
            self.field = fields.FieldSelector((*self.field.requirements, own))
        unknown = self.field.unsupported(served.selectable_names)
        if unknown is not None:
            raise errors.bad_request(f"field label not supported: {unknown}")
        if served.converts:
            self.field = convert.field_selector(served, self.field)
        self.matches = self._matcher()

    def _matcher(self) -> Matches | None:
        label, field = self.label, self.field
        if field.everything:
            return None if label.everything else lambda entry: label.matches(entry.labels)
        if label.everything:
            return lambda entry: field.matches(entry.fields)
        return lambda entry: field.matches(entry.fields) and label.matches(entry.labels)


class Token:
    """A continue token: where in which snapshot to go on."""

    __slots__ = ("revision", "start")

    def __init__(self, revision: int, start: str) -> None:
        self.revision = revision
        self.start = start

    def encode(self) -> str:
        raw = orjson.dumps({"v": "meta.k8s.io/v1", "rv": self.revision, "start": self.start})
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Token:
        """Raises 400 for what we did not make."""
        try:
            found = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            revision, start = found["rv"], found["start"]
        except (ValueError, KeyError, TypeError):
            raise errors.bad_request(f"continue key is not valid: {text[:64]}") from None
        if (
            found.get("v") != "meta.k8s.io/v1"
            or not isinstance(revision, int)
            or not 0 < revision < MAX_VERSION
            or not isinstance(start, str)
        ):
            raise errors.bad_request(f"continue key is not valid: {text[:64]}")
        return cls(revision, start)


class ListResult:
    """What a list found, of which revision."""

    __slots__ = ("entries", "next", "remaining", "revision")

    def __init__(self, entries: list[Entry], revision: int, following: str = "", remaining: int | None = None) -> None:
        self.entries = entries
        self.revision = revision
        self.next = following
        self.remaining = remaining

    def metadata(self) -> dict[str, Any]:
        """The ListMeta."""
        found: dict[str, Any] = {"resourceVersion": str(self.revision)}
        if self.next:
            found["continue"] = Token(self.revision, self.next).encode()
            if self.remaining is not None:
                found["remainingItemCount"] = self.remaining
        return found


async def list_(context: Context, request: Request, served: Served) -> None:
    """A collection, in the order of keys."""
    store = store_of(served)
    selection = Selection(request, served)
    result = await find(request, served, store, selection)
    await lists.respond(request, served, result.entries, result.metadata())


async def find(request: Request, served: Served, store: Store, selection: Selection) -> ListResult:
    """The list semantics: which revision is read, and how much of it."""
    query = request.query
    limit = _limit(query.get("limit", ""))
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    token = query.get("continue", "")
    _check_match(request, version, match, token)
    cache = store.cache
    prefix = store.collection(request.info.namespace)
    if token:
        if version and version != "0":
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        position = Token.decode(token)
        return await _past(store, prefix, position.revision, limit, selection.matches, position.start)
    if match == "Exact":
        return await _past(store, prefix, parse_version(version), limit, selection.matches, "")
    if version == "0":
        await cache.ready()
        if not cache.revision:
            await cache.fresh()
    elif version:
        await cache.at_least(parse_version(version))
    else:
        try:
            await cache.fresh()
        except errors.ApiError as error:
            if not errors.is_timeout(error):
                raise
            return await _from_store(store, prefix, await store.kv.revision(), limit, selection.matches, "")
    name = selection.field.exact("metadata.name")
    if name is not None and (request.info.namespace or not store.resource.namespaced):
        entry = cache.get(store.key(request.info.namespace, name))
        found = [entry] if entry is not None and (selection.matches is None or selection.matches(entry)) else []
        return ListResult(found, cache.revision)
    return _take(cache.entries(prefix if prefix != store.prefix else ""), cache.revision, limit, selection.matches, prefix)


def _take(entries: Iterable[Entry], revision: int, limit: int, matches: Matches | None, prefix: str) -> ListResult:
    if not limit:
        found = list(entries) if matches is None else [each for each in entries if matches(each)]
        return ListResult(found, revision)
    found = []
    iterator = iter(entries)
    for entry in iterator:
        if matches is not None and not matches(entry):
            continue
        if len(found) == limit:
            remaining = 1 + sum(1 for _ in iterator) if matches is None else None
            return ListResult(found, revision, found[-1].key[len(prefix) :] + "\0", remaining)
        found.append(entry)
    return ListResult(found, revision)


async def _past(store: Store, prefix: str, revision: int, limit: int, matches: Matches | None, start: str) -> ListResult:
    """A past revision: out of the cache as far as its history reaches back, else from the store, which has to know it still in either case."""
    if not store.cache.knows(revision):
        return await _from_store(store, prefix, revision, limit, matches, start)
    await store.kv.check_revision(revision)
    entries = store.cache.past(revision, prefix, prefix + start if start else "")
    if entries is None:
        return await _from_store(store, prefix, revision, limit, matches, start)
    return _take(entries, revision, limit, matches, prefix)


async def _from_store(store: Store, prefix: str, revision: int, limit: int, matches: Matches | None, start: str) -> ListResult:
    """A past revision, which only the store has. Raises 410 where it is compacted."""
    found: list[Entry] = []
    first = prefix + start if start else ""
    while True:
        page = await store.kv.list(prefix, revision=revision, limit=(limit or 1000) + 1, start=first)
        for at, each in enumerate(page.items):
            if limit and len(found) == limit:
                rest = page.count - at if matches is None else None
                return ListResult(found, revision, found[-1].key[len(prefix) :] + "\0", rest)
            entry = store.cache.make(each.key, each.value, each.revision)
            if matches is None or matches(entry):
                found.append(entry)
        if not page.more:
            return ListResult(found, revision)
        first = page.items[-1].key + "\0"


def _limit(text: str) -> int:
    if not text:
        return 0
    return max(0, parse_integer(text))


def _check_match(request: Request, version: str, match: str, token: str) -> None:
    """The rules of resourceVersionMatch, and that sendInitialEvents is for watches. Raises 422."""
    wrong: list[errors.FieldError] = []
    if match and not version:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        wrong.append(errors.forbidden_value("resourceVersionMatch", why))
    if match and token:
        why = "resourceVersionMatch is forbidden when continue is provided"
        wrong.append(errors.forbidden_value("resourceVersionMatch", why))
    if match not in ("", "Exact", "NotOlderThan"):
        wrong.append(errors.unsupported_value("resourceVersionMatch", match, ("Exact", "NotOlderThan", "")))
    if match == "Exact" and version == "0":
        why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        wrong.append(errors.forbidden_value("resourceVersionMatch", why))
    if "sendInitialEvents" in request.query:
        wrong.append(errors.forbidden_value("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if wrong:
        raise errors.invalid("ListOptions", "meta.k8s.io", "", wrong)
