"""A schema as the estimator of costs sees it: types, and how large their values can get.

What the schema does not limit is limited by the largest request that is taken (3 MiB): so many characters, items or entries fit into it at most.
"""

from __future__ import annotations

from kubeling.api.cel.decl import Decl
from kubeling.api.structural.celvalues import spellings
from kubeling.api.structural.node import Node

MAX_REQUEST = 3 * 1024 * 1024
#: Bytes of the shortest JSON, and of the longest where the format has one.
_FORMATS = {"duration": ("duration", 3, 32), "date": ("timestamp", 12, 12), "date-time": ("timestamp", 21, 32)}
_LEAST = {"boolean": 4, "number": 1, "integer": 1}
_KINDS = {"boolean": "bool", "number": "double", "integer": "int"}
_TEXT = Decl("string", MAX_REQUEST - 2, 2)
#: A character can be four bytes long.
_BYTES = 4


def declare(node: Node, *, top: bool = False) -> Decl | None:
    """The type of a schema's values, None where the schema does not say it. `top`: it is of a whole object."""
    if node.int_or_string:
        return Decl("dyn", _characters(node), 1)
    if node.type in _KINDS:
        return Decl(_KINDS[node.type], least_json=_LEAST[node.type])
    match node.type:
        case "array":
            return _list(node)
        case "object" if node.additional is not None and not top:
            return _map(node, node.additional)
        case "object":
            return _object(node, top)
        case "string":
            return _string(node)
    return None


def most_often(decl: Decl) -> int:
    """How often a value of this type can stand in one request."""
    return MAX_REQUEST // (decl.least_json + 1)


def _limit(node: Node, name: str) -> int | None:
    return max(int(node.limits[name]), 0) if name in node.limits else None


def _characters(node: Node) -> int:
    limit = _limit(node, "maxLength")
    return MAX_REQUEST - 2 if limit is None else limit * _BYTES


def _list(node: Node) -> Decl | None:
    items = declare(node.items, top=node.items.embedded) if node.items is not None else None
    if items is None:
        return None
    limit = _limit(node, "maxItems")
    return Decl("list", (MAX_REQUEST - 2) // (items.least_json + 1) if limit is None else limit, 2, element=items)


def _map(node: Node, additional: Node) -> Decl | None:
    values = declare(additional, top=additional.embedded)
    if values is None:
        return None
    limit = _limit(node, "maxProperties")
    return Decl("map", (MAX_REQUEST - 2) // (values.least_json + 6) if limit is None else limit, 2, element=values)


def _object(node: Node, top: bool) -> Decl:
    fields: dict[str, Decl] = {}
    least = 2
    for name, inner in node.properties.items():
        decl = declare(inner, top=inner.embedded)
        if decl is not None:
            fields |= dict.fromkeys(spellings(name), decl)
            if name in node.required and not inner.has_default:
                least += len(name) + decl.least_json + 4
    if top and not _says_names(node):
        metadata = Decl("object", 0, 2, fields={"name": _TEXT, "generateName": _TEXT})
        fields |= {"apiVersion": _TEXT, "kind": _TEXT, "metadata": metadata}
    return Decl("object", 0, least, fields=fields)


def _says_names(node: Node) -> bool:
    """Whether the schema itself has all that can be seen of every object; what it limits there counts then."""
    metadata = node.properties.get("metadata")
    named = metadata.properties if metadata is not None else {}
    found = (node.properties.get("apiVersion"), node.properties.get("kind"), named.get("name"), named.get("generateName"))
    return all(each is not None and each.type == "string" for each in found)


def _string(node: Node) -> Decl:
    if node.format in _FORMATS:
        kind, least, most = _FORMATS[node.format]
        return Decl(kind, most, least)
    if node.format == "byte":
        limit = _limit(node, "maxLength")
        return Decl("bytes", MAX_REQUEST - 2 if limit is None else limit, 2)
    if "maxLength" not in node.limits and node.enum:
        return Decl("string", max((len(each.encode()) for each in node.enum if isinstance(each, str)), default=0), 2)
    return Decl("string", _characters(node), 2)
