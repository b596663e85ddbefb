"""Objects and lists in the forms that are not plain JSON: Table, metadata only, protobuf, YAML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from kubeling.api import printers
from kubeling.api.printers.table import Include
from kubeling.apiserver.negotiate import Output

if TYPE_CHECKING:
    from kubeling.api.printers.columns import Printer
    from kubeling.api.resources import Resource
    from kubeling.apiserver.registry.kinds import Served

Object = dict[str, Any]


def one(output: Output, served: Served, obj: Object, now: datetime, include: str = "") -> bytes:
    """An object."""
    if output.transform == "Table":
        metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return orjson.dumps(table(output, served, [obj], metadata, include, now))
    if output.transform == "PartialObjectMetadata":
        obj = partial(output, obj)
    return serialize(output, obj)


def many(output: Output, served: Served, items: Sequence[Object], metadata: Object, now: datetime, include: str = "") -> bytes:
    """A list."""
    if output.form == "protobuf":
        return b"".join(protobuf_list(output, served, [protobuf_item(output, each) for each in items], metadata)[0])
    return b"".join(pieces(output, served, items, metadata, now, include))


def pieces(
    output: Output, served: Served, items: Iterable[Object], metadata: Object, now: datetime, include: str = ""
) -> Iterator[bytes]:
    """A list in JSON or YAML, made object by object."""
    name, shown = "items", items
    if output.transform == "Table":
        name, made = "rows", table(output, served, (), metadata, include, now)
        resource, chosen = served.resource, _included(include)
        printer = served.printer or printers.printer_of(resource)
        shown = (printers.row_of(each, resource, now, chosen, printer) for each in items)
    else:
        made = _list_of(output, served, metadata)
        if output.transform:
            shown = (partial(output, each) for each in items)
    if output.form == "yaml":
        yield from _yaml_list(made, shown)
        return
    del made[name]
    yield b'%b,"%b":[' % (orjson.dumps(made)[:-1], name.encode())
    comma = b""
    for each in shown:
        yield comma + orjson.dumps(each)
        comma = b","
    yield b"]}"


def _list_of(output: Output, served: Served, metadata: Object) -> Object:
    """An empty list."""
    if output.transform:
        kind, version = "PartialObjectMetadataList", f"meta.k8s.io/{output.version}"
        return {"kind": kind, "apiVersion": version, "metadata": metadata, "items": []}
    return {"kind": served.list_kind, "apiVersion": served.resource.group_version, "metadata": metadata, "items": []}


def _yaml_list(made: Object, items: Iterable[Object]) -> Iterator[bytes]:
    """As if it were dumped in one piece, which takes seconds: the members go by name, and items are not indented."""
    whole = {key: value for key, value in made.items() if key != "items"}
    yield _yaml({key: whole.pop(key) for key in sorted(whole) if key < "items"})
    yield b"items:"
    empty = True
    for each in items:
        yield (b"\n" if empty else b"") + _yaml([each])
        empty = False
    yield (b" []\n" if empty else b"") + _yaml(whole)


def _yaml(value: Any) -> bytes:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(value, Dumper=dumper, sort_keys=True, allow_unicode=True)
    return text.encode()


def protobuf_item(output: Output, obj: Object) -> bytes:
    """An object of a list, without an envelope."""
    from kubeling.api import protobuf

    if output.transform:
        obj = partial(output, obj)
    return protobuf.encode_raw(obj, obj["apiVersion"], obj["kind"])


def protobuf_list(output: Output, served: Served, items: Sequence[bytes], metadata: Object) -> tuple[Iterator[bytes], int]:
    """The pieces of a list of such objects, and its length."""
    from kubeling.api import protobuf

    return protobuf.encode_list(_list_of(output, served, metadata), items)


def partial(output: Output, obj: Object) -> Object:
    """The metadata alone."""
    version = output.version or "v1"
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": obj.get("metadata") or {}}


def table(output: Output, served: Served, items: Sequence[Object], metadata: Object, include: str, now: datetime) -> Object:
    """A meta.k8s.io Table; rows carry the metadata, the whole object, or nothing, as `include` says."""
    return table_of(output, served.resource, served.printer, items, metadata, include, now)


def table_of(
    output: Output,
    resource: Resource,
    printer: Printer | None,
    items: Sequence[Object],
    metadata: Object,
    include: str,
    now: datetime,
) -> Object:
    """The same of any resource."""
    made = printers.table(items, resource, now, _included(include), metadata=metadata, printer=printer)
    if output.version != "v1":
        made["apiVersion"] = f"meta.k8s.io/{output.version}"
    return made


def _included(include: str) -> Include:
    return "Object" if include == "Object" else "None" if include == "None" else "Metadata"


def serialize(output: Output, obj: Object) -> bytes:
    """An object of any kind in the form asked for."""
    if output.form == "yaml":
        return _yaml(obj)
    if output.form == "protobuf":
        from kubeling.api import protobuf

        return protobuf.encode(obj)
    return orjson.dumps(obj)


STREAM_TYPE = b"application/vnd.kubernetes.protobuf;stream=watch"


def event(output: Output, served: Served, kind: str, obj: Object, include: str, now: datetime) -> bytes:
    """One watch event; of a bookmark only the metadata counts."""
    if output.transform == "Table":
        metadata = {key: obj["metadata"][key] for key in ("resourceVersion", "annotations") if key in obj["metadata"]}
        if kind != "BOOKMARK":
            metadata.pop("annotations", None)
        items = [] if kind == "BOOKMARK" else [obj]
        obj = table(output, served, items, metadata, include, now)
    elif output.transform == "PartialObjectMetadata":
        obj = partial(output, obj)
    if output.form == "protobuf":
        from kubeling.api import protobuf

        return protobuf.encode_watch_event(kind, protobuf.encode(obj))
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"
