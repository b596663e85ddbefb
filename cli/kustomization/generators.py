"""ConfigMaps and Secrets out of literals and files, and the hash of what is in them that ends their names."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from kubeling.api.names import config_key
from kubeling.cli.dialect import write_json
from kubeling.cli.kustomization.loading import Folder, known
from kubeling.cli.kustomization.problems import KustomizationError
from kubeling.cli.kustomization.resource import Resource

Map = dict[str, Any]
_COMMON = ("name", "namespace", "behavior", "files", "literals", "envs", "env", "options")
_OPTIONS = ("labels", "annotations", "disableNameSuffixHash", "immutable")
_LINE = 70
_DIGITS = str.maketrans("013ae", "ghkmt")


def config_maps(entries: Sequence[Any], common: Map, folder: Folder) -> list[Resource]:
    """What `configMapGenerator` makes; `common` are the generatorOptions."""
    found = []
    for entry in entries:
        said = known(entry, "configMapGenerator", *_COMMON)
        obj = _begun("ConfigMap", said)
        data: dict[str, str] = {}
        binary: dict[str, str] = {}
        for key, value in _pairs(said, folder):
            try:
                data[key] = value.decode()
            except UnicodeDecodeError:
                binary[key] = _encoded(value)
        if data:
            obj["data"] = data
        if binary:
            obj["binaryData"] = binary
        found.append(_finished(obj, said, common))
    return found


def secrets(entries: Sequence[Any], common: Map, folder: Folder) -> list[Resource]:
    """What `secretGenerator` makes."""
    found = []
    for entry in entries:
        said = known(entry, "secretGenerator", *_COMMON, "type")
        obj = _begun("Secret", said)
        data = {key: _encoded(value) for key, value in _pairs(said, folder)}
        obj["type"] = said.get("type") or "Opaque"
        obj["data"] = data
        found.append(_finished(obj, said, common))
    return found


def _begun(kind: str, said: Map) -> Map:
    if not said.get("name"):
        raise KustomizationError(f"invalid Kustomization: a {kind} generator has to say a name")
    metadata = {"name": str(said["name"])}
    if said.get("namespace"):
        metadata["namespace"] = str(said["namespace"])
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def _finished(obj: Map, said: Map, common: Map) -> Resource:
    own = known(said.get("options") or {}, "options", *_OPTIONS)
    common = known(common, "generatorOptions", *_OPTIONS)
    for member in ("labels", "annotations"):
        texts = {**(common.get(member) or {}), **(own.get(member) or {})}
        if texts:
            obj["metadata"][member] = texts
    if own.get("immutable") or common.get("immutable"):
        obj["immutable"] = True
    behavior = said.get("behavior") or "create"
    if behavior not in ("create", "merge", "replace"):
        raise KustomizationError(f"unknown behavior '{behavior}' of {obj['kind']} {said['name']}: create, merge or replace")
    plain = own.get("disableNameSuffixHash") or common.get("disableNameSuffixHash")
    return Resource(obj, needs_hash=not plain, behavior=behavior)


def _pairs(said: Map, folder: Folder) -> list[tuple[str, bytes]]:
    """All keys with their values, in order; none may come twice."""
    envs = [*(said.get("envs") or ()), *((said["env"],) if said.get("env") else ())]
    found = [pair for name in envs for pair in _env(folder.text(name), name)]
    found += [_literal(each) for each in said.get("literals") or ()]
    found += [_file(each, folder) for each in said.get("files") or ()]
    seen: set[str] = set()
    for key, _ in found:
        wrong = config_key(key)
        if wrong:
            raise KustomizationError(f'"{key}" is not a valid key name: {"; ".join(wrong)}')
        if key in seen:
            raise KustomizationError(f"cannot add key '{key}', another key by that name already exists")
        seen.add(key)
    return found


def _literal(text: Any) -> tuple[str, bytes]:
    key, equals, value = str(text).partition("=")
    if not key or not equals:
        raise KustomizationError(f"invalid literal source {text}, expected key=value")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return key, value.encode()


def _file(text: Any, folder: Folder) -> tuple[str, bytes]:
    key, equals, path = str(text).partition("=")
    if not equals:
        key, path = PurePosixPath(key).name, key
    if not key or not path:
        raise KustomizationError(f"key name or file path for file source {text} missing")
    return key, folder.read(path)


def _env(text: str, name: str) -> list[tuple[str, bytes]]:
    """The lines of an env file; a key without a value has that of the environment."""
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not key:
            raise KustomizationError(f"{name}: a line has no key: {line}")
        found.append((key, (value if equals else os.environ.get(key, "")).encode()))
    return found


def _encoded(value: bytes) -> str:
    """Base64, in lines where it is long."""
    text = base64.b64encode(value).decode()
    if len(text) < _LINE:
        return text
    return "".join(f"{text[at : at + _LINE]}\n" for at in range(0, len(text), _LINE))


def absorb(resources: list[Resource], made: Sequence[Resource]) -> None:
    """Add what generators made, or lay it over what is there, in place."""
    for each in made:
        same = [other for other in resources if any(one.equals(each.id) for one in other.ids)]
        if len(same) > 1:
            raise KustomizationError(f"found multiple objects {each.id} that could accept merge of {each.id}")
        if each.behavior == "create":
            if same:
                raise KustomizationError(f"behavior must be merge or replace for existing id {each.id}")
            resources.append(each)
            continue
        if not same:
            raise KustomizationError(f"id {each.id} does not exist; cannot merge or replace")
        _laid_over(same[0], each)


def _laid_over(before: Resource, made: Resource) -> None:
    metadata = dict(before.obj["metadata"])
    for member in ("labels", "annotations"):
        texts = {**(metadata.get(member) or {}), **(made.obj["metadata"].get(member) or {})}
        if texts:
            metadata[member] = texts
    obj = {**made.obj, "metadata": metadata}
    if made.behavior == "merge":
        obj = {**before.obj, **obj}
        for member in ("data", "binaryData"):
            values = {**(before.obj.get(member) or {}), **(made.obj.get(member) or {})}
            if values:
                obj[member] = values
    before.obj = obj
    before.needs_hash = before.needs_hash or made.needs_hash


def add_hashes(resources: Sequence[Resource]) -> None:
    """End the names of what was generated in a hash of its content, so that who uses it is rolled out anew when that changes."""
    for each in resources:
        if each.needs_hash:
            each.rename(f"{each.name}-{hash_of(each.obj)}")


def hash_of(obj: Map) -> str:
    """Ten characters of the SHA-256 of the content, in an alphabet that spells no words."""
    kind = obj.get("kind")
    if kind in ("ConfigMap", "Secret"):
        # (The name does not count: whoever prefixes it later has the same hash.)
        said: Map = {"kind": kind, "name": "", "data": obj["data"] if obj.get("data") is not None else ""}
        other = "binaryData" if kind == "ConfigMap" else "stringData"
        if obj.get(other) is not None:
            said[other] = obj[other]
        if kind == "Secret":
            said["type"] = obj.get("type") or ""
    else:
        said = obj
    digest = hashlib.sha256(write_json(said, indent=None).encode()).hexdigest()
    return digest[:10].translate(_DIGITS)
