"""Objects and lists in the forms that are not plain JSON: Table, metadata only, protobuf, YAML."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from kubeling.api import printers
from kubeling.api.printers.table import Include
from kubeling.apiserver.negotiate import Output

if TYPE_CHECKING:
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
    if output.transform == "Table":
        return orjson.dumps(table(output, served, items, metadata, include, now))
    resource = served.resource
    made: Object
    if output.transform == "PartialObjectMetadata":
        kind, version = "PartialObjectMetadataList", f"meta.k8s.io/{output.version}"
        made = {"kind": kind, "apiVersion": version, "metadata": metadata, "items": [partial(output, each) for each in items]}
    else:
        made = {"kind": served.list_kind, "apiVersion": resource.group_version, "metadata": metadata, "items": list(items)}
    return serialize(output, made)


def partial(output: Output, obj: Object) -> Object:
    """The metadata alone."""
    version = output.version or "v1"
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": obj.get("metadata") or {}}


def table(output: Output, served: Served, items: Sequence[Object], metadata: Object, include: str, now: datetime) -> Object:
    """A meta.k8s.io Table; rows carry the metadata, the whole object, or nothing, as `include` says."""
    chosen: Include = "Object" if include == "Object" else "None" if include == "None" else "Metadata"
    made = printers.table(items, served.resource, now, chosen, metadata=metadata, printer=served.printer)
    if output.version != "v1":
        made["apiVersion"] = f"meta.k8s.io/{output.version}"
    return made


def serialize(output: Output, obj: Object) -> bytes:
    """An object of any kind in the form asked for."""
    if output.form == "yaml":
        import yaml

        return yaml.safe_dump(obj, sort_keys=True, allow_unicode=True).encode()
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
