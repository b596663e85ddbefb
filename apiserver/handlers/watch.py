"""watch: a stream of changes from a revision on.

No resourceVersion, or "0": first everything that is there, as ADDED; any other: what happened since. With `sendInitialEvents` a bookmark marks the end of
what was there (KEP-3157). Bookmarks come once a minute, and at the end, where the client allows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson

from kubeling.api import errors
from kubeling.apiserver import convert, metrics, render
from kubeling.apiserver.cache.cache import Cache
from kubeling.apiserver.cache.entry import Entry, decode
from kubeling.apiserver.cache.watcher import Encoder, Event, Watcher
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import lists
from kubeling.apiserver.handlers.common import store_of
from kubeling.apiserver.handlers.read import Selection
from kubeling.apiserver.negotiate import Output
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.store import parse_integer, parse_version
from kubeling.apiserver.request import Request, is_true
from kubeling.daemon.clock import Clock

#: A watch without timeoutSeconds is ended after between one and two of these.
_MIN_SECONDS = 1800
_INITIAL_END = {"annotations": {"k8s.io/initial-events-end": "true"}}


async def watch(context: Context, request: Request, served: Served) -> None:
    """Stream changes until the client, the timeout or the server ends it."""
    store = store_of(served)
    cache = store.cache
    query = request.query
    selection = Selection(request, served)
    initial = _send_initial(request)
    version = query.get("resourceVersion", "")
    bookmarks = is_true(query.get("allowWatchBookmarks")) if "allowWatchBookmarks" in query else False
    seconds = _timeout(context, query.get("timeoutSeconds", ""))
    output = request.output
    since = parse_version(version) if version else 0
    if cache.lost:
        raise errors.service_unavailable(
            "this apiserver has lost the store, so there is nothing to watch: try again, or another apiserver"
        )
    if initial and not version:
        await cache.fresh()
    elif initial and since:
        await cache.at_least(since)
    elif not version:
        await cache.fresh()
    else:
        await cache.ready()
    everything = initial or (since == 0 and initial is None)
    encoder = _encoder(output, served, query.get("includeObject", ""), context.clock)
    start = cache.revision if everything or since == 0 else since
    connection = request.scope["state"]["connection"]
    watcher = Watcher(
        matches=_matcher(request, cache, selection),
        encoder=encoder,
        after=start,
        bookmarks=(lambda revision: _bookmark(output, served, revision, context.clock)) if bookmarks else None,
        # Who does not read cannot be told anything either: the connection is broken off.
        overflow=connection.abort,
        # What a webhook has to convert first takes the longer way.
        sink=None if served.converts_late else connection.write_chunk,
    )
    finish = _finish(output, served, query.get("includeObject", ""), context.clock)
    present: list[Entry] = []
    if everything:
        prefix = store.collection(request.info.namespace)
        entries = cache.entries(prefix if prefix != store.prefix else "")
        present = list(entries) if selection.matches is None else [each for each in entries if selection.matches(each)]
    else:
        cache.check_window(start)
        cache.replay(watcher, start)
    trigger = selection.field.exact(cache.trigger) if cache.trigger else None
    cache.attach(watcher, trigger)
    connection.when_closed(watcher.close)
    context.streams.add(watcher)
    timer = asyncio.get_running_loop().call_later(seconds, watcher.close)
    try:
        await request.start_stream(_content_type(output))
        for piece in lists.batched(_added(entry, cache, encoder) for entry in present):
            await request.chunk(await finish(piece))
            # Others have their turn.
            await asyncio.sleep(0)
        if initial and bookmarks:
            await request.chunk(_bookmark(output, served, start, context.clock, initial=True))
        while (data := await watcher.next()) is not None:
            await request.chunk(await finish(data))
        if watcher.too_slow:
            metrics.TERMINATED_WATCHERS.labels(served.resource.qualified).inc()
        await request.end_stream()
    finally:
        timer.cancel()
        connection.when_closed(None)
        context.streams.discard(watcher)
        cache.detach(watcher, trigger)


def _send_initial(request: Request) -> bool | None:
    """sendInitialEvents: None where it is not given. Raises 422 where it does not go with the rest."""
    text = request.query.get("sendInitialEvents")
    match = request.query.get("resourceVersionMatch", "")
    wrong: list[errors.FieldError] = []
    if text is not None and match != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        wrong.append(errors.forbidden_value("resourceVersionMatch", why))
    if text is None and match:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        wrong.append(errors.forbidden_value("resourceVersionMatch", why))
    if match not in ("", "NotOlderThan"):
        wrong.append(errors.unsupported_value("resourceVersionMatch", match, ("NotOlderThan",)))
    if wrong:
        raise errors.invalid("ListOptions", "meta.k8s.io", "", wrong)
    if text is None:
        return None
    return is_true(text)


def _timeout(context: Context, text: str) -> float:
    if text:
        seconds = parse_integer(text)
        if seconds > 0:
            return float(min(seconds, 24 * 3600))
    return _MIN_SECONDS * (1 + context.random.random())


def _matcher(request: Request, cache: Cache, selection: Selection) -> Callable[[Entry], bool] | None:
    """The selectors and the namespace in one."""
    namespace = request.info.namespace
    matches = selection.matches
    if not namespace or "metadata.namespace" not in _selectable(cache):
        return matches
    if matches is None:
        return lambda entry: entry.fields["metadata.namespace"] == namespace
    inner = matches
    return lambda entry: entry.fields["metadata.namespace"] == namespace and inner(entry)


def _selectable(cache: Cache) -> frozenset[str]:
    return frozenset(cache.fields({"metadata": {}}))


def _content_type(output: Output) -> bytes:
    return b"application/json" if output.form != "protobuf" else render.STREAM_TYPE


def _added(entry: Entry, cache: Cache, encoder: Encoder | None) -> bytes:
    event = Event("ADDED", entry.revision, entry, None, cache.head, 0.0)
    return event.encode("ADDED") if encoder is None else encoder("ADDED", event)


def _encoder(output: Output, served: Served, include: str, clock: Clock) -> Encoder | None:
    """None where the shared JSON does."""
    if output.plain and not served.converts:
        return None
    if served.converts_late:
        return _unconverted

    ages = output.transform == "Table"

    def encode(kind: str, event: Event) -> bytes:
        # All watchers that want the same share it; ages have to be of this second.
        form = (output, served, include, int(clock.monotonic()) if ages else 0)
        found = event.lines.get((kind, form))
        if found is None:
            source = event.previous if kind == "DELETED" and event.previous is not None else event.entry
            obj = convert.from_storage(served, decode(source.raw, event.revision))
            found = event.lines[kind, form] = render.event(output, served, kind, obj, include, clock.now())
        return found

    return encode


def _unconverted(kind: str, event: Event) -> bytes:
    """A plain line with the object as it is stored; see :func:`_finish`."""
    source = event.previous if kind == "DELETED" and event.previous is not None else event.entry
    return orjson.dumps({"type": kind, "object": decode(source.raw, event.revision)}) + b"\n"


def _finish(output: Output, served: Served, include: str, clock: Clock) -> Callable[[bytes], Awaitable[bytes]]:
    """What happens to lines before they are sent: nothing, or the conversion by a webhook, which takes its time."""

    async def as_is(data: bytes) -> bytes:
        return data

    async def converted(data: bytes) -> bytes:
        lines = data.splitlines()
        events = [each if type(each) is dict and each.get("type") in _CHANGES else None for each in map(_parsed, lines)]
        objects = iter(await convert.present(served, [each["object"] for each in events if each is not None]))
        out = [
            line + b"\n" if event is None else render.event(output, served, event["type"], next(objects), include, clock.now())
            for line, event in zip(lines, events, strict=True)
        ]
        return b"".join(out)

    return converted if served.converts_late else as_is


_CHANGES = frozenset({"ADDED", "MODIFIED", "DELETED"})


def _parsed(line: bytes) -> object:
    return orjson.loads(line)


def _bookmark(output: Output, served: Served, revision: int, clock: Clock, *, initial: bool = False) -> bytes:
    resource = served.resource
    metadata = {"resourceVersion": str(revision), **(_INITIAL_END if initial else {})}
    obj = {"kind": resource.kind, "apiVersion": resource.group_version, "metadata": metadata}
    if output.plain:
        return b'{"type":"BOOKMARK","object":%b}\n' % orjson.dumps(obj)
    return render.event(output, served, "BOOKMARK", obj, "", clock.now())


async def bookmarks(context: Context) -> None:
    """Once a minute, tell every watcher that allows it how far it is, and let go of encodings that nobody asks for."""
    while True:
        await context.clock.sleep(60)
        for store in context.kinds.stores():
            if store.cache.active:
                store.cache.encodings.age()
                for watcher in store.cache.watchers():
                    watcher.bookmark(store.cache.revision)
