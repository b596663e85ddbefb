"""StorageVersions and StorageVersionMigrations."""

from __future__ import annotations

from kubeling.api import names
from kubeling.api.errors import invalid_value, required_value
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.validation.common import Errors, Map, checked, required_name, unchanged

_ENDED = ("Succeeded", "Failed")


def storage_version_status(new: Object, old: Object) -> Errors:
    """StorageVersion: each server can read what it writes, and they agree where the status says so."""
    status = status_of(new)
    every = status.get("storageVersions") or []
    for at, each in enumerate(every):
        path = f"status.storageVersions[{at}]"
        yield from required_name(f"{path}.apiServerID", each.get("apiServerID"), names.dns1123_subdomain)
        decodable, encoding = each.get("decodableVersions") or [], each.get("encodingVersion") or ""
        yield from required_name(f"{path}.encodingVersion", encoding)
        if encoding and encoding not in decodable:
            detail = f"decodableVersions must include encodingVersion {encoding}"
            yield invalid_value(f"{path}.decodableVersions", decodable, detail)
        if wrong := [version for version in each.get("servedVersions") or () if version not in decodable]:
            detail = f"individual served version : {wrong[0]} must be included in decodableVersions"
            yield invalid_value(f"{path}.servedVersions", wrong[0], detail)
    yield from _common(status, {each.get("encodingVersion") or "" for each in every})


def _common(status: Map, encodings: set[str]) -> Errors:
    said, path = status.get("commonEncodingVersion"), "status.commonEncodingVersion"
    agreed = next(iter(encodings)) if len(encodings) == 1 else None
    if said != agreed:
        detail = f"the actual common encoding version is {agreed}"
        if agreed is None:
            detail = (
                "should be nil if servers do not agree on the same encoding version, "
                "or if there is no server reporting the supported versions yet"
            )
        yield invalid_value(path, said, detail)


def migration(obj: Object) -> Errors:
    """StorageVersionMigration: a kind is named."""
    resource, path = spec_of(obj).get("resource") or {}, "spec.resource"
    for field in ("version", "resource"):
        if not resource.get(field):
            yield required_value(f"{path}.{field}", f"{field} is required")
    if resource.get("group"):
        yield from checked(f"{path}.group", resource["group"], names.dns1123_subdomain)


def migration_update(new: Object, old: Object) -> Errors:
    """What is migrated stays the same."""
    yield from unchanged("spec.resource", spec_of(new).get("resource"), spec_of(old).get("resource"))


def migration_status(new: Object, old: Object) -> Errors:
    """Where it began stays, what has ended does not begin again, and it ends in one way."""
    after, before = status_of(new), status_of(old)
    version = after.get("resourceVersion") or ""
    if version and not (version.isascii() and version.isdigit()):
        yield invalid_value("status.resourceVersion", version, "must be an unsigned integer")
    if before.get("resourceVersion") and version != before["resourceVersion"]:
        yield invalid_value("status.resourceVersion", version, "resourceVersion cannot be updated")
    now, then = _true(after), _true(before)
    path = "status.conditions"
    if now.issuperset(_ENDED):
        yield invalid_value(path, sorted(now), "Both success and failed conditions cannot be true at the same time")
    for each in _ENDED:
        if each in now and "Running" in now:
            yield invalid_value(path, sorted(now), f"Running condition cannot be true when {each.lower()} condition is true")
        if each in then and each not in now:
            yield invalid_value(path, sorted(now), f"{each} condition cannot be set to false once it is true")


def _true(status: Map) -> set[str]:
    return {each.get("type") or "" for each in status.get("conditions") or () if each.get("status") == "True"}
