"""APIServices."""

from __future__ import annotations

from kubeling.api import names
from kubeling.api.errors import invalid_value, required_value
from kubeling.api.meta import Object, name_of, spec_of
from kubeling.api.validation.common import Errors, checked

_MAX_GROUP, _MAX_VERSION = 20000, 1000


def api_service(obj: Object) -> Errors:
    """APIService."""
    spec = spec_of(obj)
    group, version = spec.get("group") or "", spec.get("version") or ""
    if name_of(obj) != f"{version}.{group}":
        yield invalid_value("metadata.name", name_of(obj), f'must be `spec.version+"."+spec.group`: "{version}.{group}"')
    if group:
        yield from checked("spec.group", group, names.dns1123_subdomain)
    elif version != "v1":
        yield required_value("spec.group", "only v1 may have an empty group and it better be legacy kube")
    yield from checked("spec.version", version, names.dns1035_label)
    priority = spec.get("groupPriorityMinimum") or 0
    if not 0 < priority <= _MAX_GROUP:
        yield invalid_value("spec.groupPriorityMinimum", priority, "must be positive and less than 20000")
    priority = spec.get("versionPriority") or 0
    if not 0 < priority <= _MAX_VERSION:
        yield invalid_value("spec.versionPriority", priority, "must be positive and less than 1000")
    bundle, insecure = spec.get("caBundle") or "", bool(spec.get("insecureSkipTLSVerify"))
    service = spec.get("service")
    if service is None:
        if bundle:
            yield invalid_value("spec.caBundle", f"{len(bundle) * 3 // 4} bytes", "local APIServices may not have a caBundle")
        if insecure:
            yield invalid_value("spec.insecureSkipTLSVerify", insecure, "local APIServices may not have insecureSkipTLSVerify")
        return
    for field in ("namespace", "name"):
        if not service.get(field):
            yield required_value(f"spec.service.{field}")
    port = service.get("port", 443)
    if not 0 < port < 65536:
        yield invalid_value("spec.service.port", port, "port is not valid: must be between 1 and 65535, inclusive")
    if insecure and bundle:
        yield invalid_value("spec.insecureSkipTLSVerify", insecure, "may not be true if caBundle is present")
