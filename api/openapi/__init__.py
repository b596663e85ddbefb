"""OpenAPI v3, one document for each group version, out of the registry of kinds and their schemas.

What kubectl takes from it: that the server validates fields (a `fieldValidation` parameter on every PATCH), which patches a kind takes, the merge
keys for `apply`, and all that `explain` shows. Documents are made when first asked for and kept as bytes. A hash of the content stands in the index,
so that clients may keep a document until it changes.

Version 2 is made out of these (:mod:`.version2`), as JSON and as protobuf (:mod:`.gnostic`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from kubeling.api import builtin
from kubeling.api.openapi.components import Components, kind_name
from kubeling.api.openapi.paths import paths_of
from kubeling.api.resources import Resource
from kubeling.api.schema import Schema

__all__ = ["V2_CONTENT_TYPE", "custom_document", "document", "fingerprint", "index", "kind_name", "path_of"]

#: The type under which version 2 is sent as protobuf; what clients ask for has an `@` in it, which no answer may.
V2_CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

SchemaOf = Callable[[str, str], Schema]
_DOCUMENTS: dict[tuple[str, tuple[Resource, ...], str, SchemaOf], bytes] = {}
_LIMIT = 256


def document(
    group_version: str, resources: Iterable[Resource], *, version: str = "v1.33.0", schema_of: SchemaOf = builtin.schema_of
) -> bytes:
    """The document of a group version (`v1`, `apps/v1`) as JSON.

    Of `resources` those of the group version are described; `schema_of` finds the schema of a kind and raises KeyError where there is none, and
    the kind is then described as an object of any shape.
    """
    chosen = tuple(each for each in resources if each.group_version == group_version)
    key = (group_version, chosen, version, schema_of)
    found = _DOCUMENTS.get(key)
    if found is None:
        while len(_DOCUMENTS) >= _LIMIT:
            _DOCUMENTS.pop(next(iter(_DOCUMENTS)))
        found = _DOCUMENTS[key] = _make(chosen, version, schema_of)
    return found


def custom_document(resources: Iterable[Resource], bodies: Mapping[str, Any], *, version: str = "v1.33.0") -> bytes:
    """The document of a group version of custom resources. `bodies` are the components of the kinds and of their lists, by :func:`kind_name`.

    It is made anew at every call.
    """
    return _make(tuple(resources), version, builtin.schema_of, bodies)


def path_of(group_version: str) -> str:
    """Under which name a group version stands in the index and below /openapi/v3: `api/v1`, `apis/apps/v1`."""
    return f"apis/{group_version}" if "/" in group_version else f"api/{group_version}"


def fingerprint(document: bytes) -> str:
    """What changes with a document."""
    return hashlib.sha256(document).hexdigest()[:32].upper()


def index(fingerprints: Mapping[str, str]) -> bytes:
    """The answer to GET /openapi/v3: where the document of each group version is. The URL changes with the content."""
    return orjson.dumps(
        {
            "paths": {
                path_of(group_version): {"serverRelativeURL": f"/openapi/v3/{path_of(group_version)}?hash={mark}"}
                for group_version, mark in fingerprints.items()
            }
        }
    )


def _make(resources: tuple[Resource, ...], version: str, schema_of: SchemaOf, bodies: Mapping[str, Any] | None = None) -> bytes:
    components = Components(schema_of, bodies)
    paths = {path: item for resource in resources for path, item in paths_of(resource, components).items()}
    return orjson.dumps(
        {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": version},
            "paths": paths,
            "components": {"schemas": components.schemas()},
        }
    )
