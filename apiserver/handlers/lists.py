"""Lists on the wire, made while they are sent: nothing is in memory but what the client is behind, and others get their turns between two pieces.

Plain JSON is put together from stored bytes. The other forms take a look at each object: a Table, metadata and YAML as it is sent, protobuf before, since its
outermost length comes first. What an object is in protobuf is kept (:mod:`kubeling.apiserver.cache.encodings`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from kubeling.apiserver import convert, render
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.handlers.common import store_of
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request

Object = dict[str, Any]
#: What stands between the items' own bytes: `"resourceVersion":"` and `",`.
_AROUND = 21
_BATCH_BYTES = 64 * 1024
#: After how many objects that had to be encoded others have their turn: some 3 ms.
_TURN = 50


async def respond(request: Request, served: Served, entries: list[Entry], metadata: Object) -> None:
    """Answer with the list of these objects; `metadata` is the list's own."""
    output = request.output
    if output.plain and not served.converts:
        head = store_of(served).head
        # List items carry no apiVersion and kind, but for custom resources: what stands before the metadata is left out.
        inner = b'{"metadata":{' if served.is_builtin else head
        opening = b'%b%b,"items":[' % (served.list_open, orjson.dumps(metadata))
        plain = batched(_items(opening, entries, len(head), inner))
        await request.respond_pieces(plain, _length(opening, entries, len(head), inner))
        return
    pieces: Iterable[bytes]
    length: int | None = None
    if output.form == "protobuf":
        found = await _protobuf(request, served, entries)
        pieces, length = render.protobuf_list(output, served, found, metadata)
    else:
        include = request.query.get("includeObject", "")
        objects = await _objects(served, entries)
        pieces = batched(render.pieces(output, served, objects, metadata, request.clock.now(), include))
    await request.respond_pieces(pieces, length, output.content_type)


async def _objects(served: Served, entries: list[Entry]) -> Iterable[Object]:
    """The objects in the served version: one by one, unless somebody has to be asked about all of them."""
    if served.converts and not served.is_builtin:
        return await convert.present(served, [each.object() for each in entries])
    return (convert.from_storage(served, each.object()) for each in entries)


async def _protobuf(request: Request, served: Served, entries: list[Entry]) -> list[bytes]:
    """The objects' own bytes."""
    output = request.output
    kept = store_of(served).cache.encodings
    if served.converts and not served.is_builtin:
        return [render.protobuf_item(output, each) for each in await convert.present(served, [each.object() for each in entries])]
    variant = f"{output.transform} {output.version} {served.resource.group_version}"
    found = []
    made = 0
    for entry in entries:
        raw = kept.get(variant, entry)
        if raw is None:
            raw = render.protobuf_item(output, convert.from_storage(served, entry.object()))
            kept.put(variant, entry, raw)
            made += 1
            if made % _TURN == 0:
                await asyncio.sleep(0)
        found.append(raw)
    return found


def batched(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same in pieces of about 64 KB."""
    gathered, size = [], 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size > _BATCH_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _items(opening: bytes, entries: list[Entry], head: int, inner: bytes) -> Iterator[bytes]:
    """A list of plain JSON, object by object. `head`: how much of a stored object `inner` stands for."""
    yield opening
    comma = b""
    for entry in entries:
        yield b'%b%b"resourceVersion":"%d",%b' % (comma, inner, entry.revision, entry.raw[head:])
        comma = b","
    yield b"]}"


def _length(opening: bytes, entries: list[Entry], head: int, inner: bytes) -> int:
    """How long such a list is."""
    own = sum([len(each.raw) + len(str(each.revision)) for each in entries])
    between = (len(inner) - head + _AROUND + 1) * len(entries)
    return len(opening) + own + between - (1 if entries else 0) + 2
