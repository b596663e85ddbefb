"""CustomResourceDefinition: names, versions, conversion, columns and schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubeling.api import names
from kubeling.api.errors import forbidden_value, invalid_value, required_value, too_many_values, unsupported_value
from kubeling.api.meta import Object, annotations_of, name_of, spec_of, status_of
from kubeling.api.structural import jsonpath
from kubeling.api.structural.check import check_schema
from kubeling.api.structural.conditions import APPROVAL_ANNOTATION, is_protected
from kubeling.api.structural.definition import holds
from kubeling.api.validation.common import Errors, Map, checked, required_name, unchanged

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_MAX_SELECTABLE = 8
#: What may stand at the root of a schema where there is a status subresource.
_AT_ROOT = (
    "description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength",
    "pattern", "maxItems", "minItems", "uniqueItems", "multipleOf", "required", "items", "properties", "externalDocs", "example",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
)  # fmt: skip
_SELECTABLE_TYPES = ("string", "boolean", "integer")


def definition(obj: Object, old: Object | None = None) -> Errors:
    """A definition as it may be created, or be changed to. What the rules cost of a schema that was there before is not asked again."""
    spec = spec_of(obj)
    group = spec.get("group") or ""
    yield from _group(obj, group)
    plural = (spec.get("names") or {}).get("plural") or ""
    if name_of(obj) != f"{plural}.{group}":
        yield invalid_value("metadata.name", name_of(obj), 'must be spec.names.plural+"."+spec.group')
    scope = spec.get("scope")
    if not scope:
        yield required_value("spec.scope")
    elif scope not in ("Cluster", "Namespaced"):
        yield unsupported_value("spec.scope", scope, ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        yield invalid_value("spec.preserveUnknownFields", True, why)
    yield from _names(spec.get("names") or {}, "spec.names")
    yield from _versions(spec, [_schema_of(each) for each in spec_of(old).get("versions") or ()] if old is not None else [])
    yield from _conversion(spec.get("conversion") or {})


def _group(obj: Object, group: str) -> Errors:
    yield from required_name("spec.group", group, names.dns1123_subdomain)
    if group and "." not in group:
        yield invalid_value("spec.group", group, "should be a domain with at least one dot")
    if is_protected(group) and not annotations_of(obj).get(APPROVAL_ANNOTATION):
        why = f'protected groups must have approval annotation "{APPROVAL_ANNOTATION}", see https://github.com/kubernetes/enhancements/pull/1111'
        yield required_value(f"metadata.annotations[{APPROVAL_ANNOTATION}]", why)


def _names(found: Map, path: str) -> Errors:
    yield from required_name(f"{path}.plural", found.get("plural"), names.dns1035_label)
    yield from required_name(f"{path}.singular", found.get("singular"), names.dns1035_label)
    for field in ("kind", "listKind"):
        name = found.get(field) or ""
        if not name:
            yield required_value(f"{path}.{field}")
        for message in names.dns1035_label(name.lower()) if name else ():
            yield invalid_value(f"{path}.{field}", name, f"may have mixed case, but should otherwise match: {message}")
    for field in ("shortNames", "categories"):
        for index, each in enumerate(found.get(field) or ()):
            yield from checked(f"{path}.{field}[{index}]", each, names.dns1035_label)
    if found.get("kind") and found.get("kind") == found.get("listKind"):
        yield invalid_value(f"{path}.listKind", found["listKind"], "kind and listKind may not be the same")


def _schema_of(version: Map) -> Any:
    return (version.get("schema") or {}).get("openAPIV3Schema")


def _versions(spec: Map, known: list[Any]) -> Errors:
    versions: list[Map] = spec.get("versions") or []
    if not versions:
        yield required_value("spec.versions", "must have at least one version")
    seen: set[str] = set()
    for index, each in enumerate(versions):
        yield from checked(f"spec.versions[{index}].name", each.get("name") or "", names.dns1035_label)
        if each.get("name") in seen:
            yield invalid_value("spec.versions", each["name"], "must contain unique version names")
        seen.add(each.get("name") or "")
        if each.get("deprecationWarning") and not each.get("deprecated"):
            yield invalid_value(
                f"spec.versions[{index}].deprecationWarning",
                each["deprecationWarning"],
                "can only be set for deprecated versions",
            )
        yield from _warning(each.get("deprecationWarning"), f"spec.versions[{index}].deprecationWarning")
    if versions and sum(1 for each in versions if each.get("storage")) != 1:
        yield invalid_value(
            "spec.versions", [each.get("name") for each in versions], "must have exactly one version marked as storage version"
        )
    for path, schema in _places(versions, "schema", "validation"):
        found = (schema or {}).get("openAPIV3Schema")
        yield from check_schema(found, f"{path}.openAPIV3Schema", costs=found not in known)
    for path, (found, subresources) in _roots(versions):
        # The schema of the status is taken out of that of the object, and must not lose what is said above it.
        if (subresources or {}).get("status") is not None and any(value for name, value in found.items() if name not in _AT_ROOT):
            why = f"only {' '.join(_AT_ROOT)} fields are allowed at the root of the schema if the status subresource is enabled"
            yield invalid_value(f"{path}.openAPIV3Schema", sorted(found.keys() - set(_AT_ROOT)), why)
    for path, found in _places(versions, "subresources", "subresources"):
        yield from _scale((found or {}).get("scale"), f"{path}.scale")
    for path, columns in _places(versions, "additionalPrinterColumns", "additionalPrinterColumns"):
        for index, each in enumerate(columns or ()):
            yield from _column(each, f"{path}[{index}]")
    for path, (fields, schema) in _selectable(versions):
        yield from _selectable_fields(fields or [], (schema or {}).get("openAPIV3Schema") or {}, path)


def _places(versions: list[Map], field: str, hoisted: str) -> Iterator[tuple[str, Any]]:
    """A field of all versions. Where all say the same, upstream speaks of it as one, at the top of the spec."""
    values = [each.get(field) for each in versions]
    if values and values[0] and all(each == values[0] for each in values):
        yield f"spec.{hoisted}", values[0]
        return
    for index, value in enumerate(values):
        yield f"spec.versions[{index}].{field}", value


def _roots(versions: list[Map]) -> Iterator[tuple[str, tuple[Map, Any]]]:
    """The schemas with the subresources of their versions."""
    same = all(_schema_of(each) == _schema_of(versions[0]) for each in versions)
    for index, each in enumerate(versions):
        found = _schema_of(each)
        if isinstance(found, dict):
            yield "spec.validation" if same else f"spec.versions[{index}].schema", (found, each.get("subresources"))
        if same:
            return


def _selectable(versions: list[Map]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for index, each in enumerate(versions):
        yield f"spec.versions[{index}].selectableFields", (each.get("selectableFields"), each.get("schema"))


def _warning(text: str | None, path: str) -> Errors:
    if text is None:
        return
    if not text:
        yield invalid_value(path, text, "must not be an empty string")
    if len(text) > 256:
        yield invalid_value(path, text, "must be <= 256 characters in length")
    if not text.isprintable():
        yield invalid_value(path, text, "must only contain printable UTF-8 characters; non-printable character found")


def _scale(scale: Map | None, path: str) -> Errors:
    if scale is None:
        return
    for field, roots in (
        ("specReplicasPath", (".spec.",)),
        ("statusReplicasPath", (".status.",)),
        ("labelSelectorPath", (".status.", ".spec.")),
    ):
        found = scale.get(field)
        if not found:
            if field != "labelSelectorPath":
                yield required_value(f"{path}.{field}")
            continue
        where = f"{path}.{field}"
        if _plain_path(found) is None:
            yield invalid_value(where, found, "invalid json path")
        elif not found.startswith(roots):
            under = roots[0].rstrip(".") if len(roots) == 1 else "either .spec or .status"
            yield invalid_value(where, found, f"should be a json path under {under}")


def _plain_path(text: str) -> tuple[str, ...] | None:
    """The names of a path without any index; None for another."""
    try:
        found = jsonpath.parse(text)
    except ValueError:
        return None
    return found.names if text.startswith(".") else None


def _column(column: Map, path: str) -> Errors:
    if not column.get("name"):
        yield required_value(f"{path}.name")
    kind = column.get("type")
    if not kind:
        yield required_value(f"{path}.type", f"must be one of {','.join(_COLUMN_TYPES)}")
    elif kind not in _COLUMN_TYPES:
        yield invalid_value(f"{path}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}")
    where = f"{path}.JSONPath"
    text = column.get("jsonPath")
    if not text:
        yield required_value(where)
        return
    if not text.startswith("."):
        yield invalid_value(where, text, "must be a simple json path starting with .")
        return
    try:
        jsonpath.parse(text)
    except ValueError as error:
        yield invalid_value(where, text, str(error))


def _selectable_fields(fields: list[Map], schema: Map, path: str) -> Errors:
    if len(fields) > _MAX_SELECTABLE:
        yield too_many_values(path, len(fields), _MAX_SELECTABLE)
        return
    seen: set[str] = set()
    for index, each in enumerate(fields):
        where, text = f"{path}[{index}].jsonPath", each.get("jsonPath") or ""
        if not text:
            yield required_value(where)
            continue
        steps = _plain_path(text)
        if steps is None:
            yield invalid_value(where, text, "is an invalid path")
            continue
        if steps[0] == "metadata":
            yield invalid_value(where, text, "must not point to fields in metadata")
            continue
        if text in seen:
            yield invalid_value(where, text, "must not be listed twice")
        seen.add(text)
        found: Any = schema
        for name in steps:
            found = (found.get("properties") or {}).get(name) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            yield invalid_value(where, text, "must point to a field of the schema")
        elif found.get("type") not in _SELECTABLE_TYPES:
            yield invalid_value(
                where,
                text,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            )


def _conversion(conversion: Map) -> Errors:
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook")
    path = "spec.conversion"
    if not strategy:
        yield required_value(f"{path}.strategy")
    elif strategy not in ("None", "Webhook"):
        yield unsupported_value(f"{path}.strategy", strategy, ("None", "Webhook"))
    if strategy != "Webhook":
        if webhook:
            yield forbidden_value(f"{path}.webhook", "should not be set when strategy is not set to Webhook")
        return
    config = (webhook or {}).get("clientConfig")
    if not config:
        yield required_value(f"{path}.webhookClientConfig", "required when strategy is set to Webhook")
    else:
        yield from _client(config, f"{path}.webhookClientConfig")
    versions = (webhook or {}).get("conversionReviewVersions") or []
    where = f"{path}.conversionReviewVersions"
    if not versions:
        yield required_value(where)
    elif not any(each in _REVIEW_VERSIONS for each in versions):
        yield invalid_value(where, versions, f"must include at least one of {', '.join(_REVIEW_VERSIONS)}")


def _client(config: Map, path: str) -> Errors:
    url, service = config.get("url"), config.get("service")
    if bool(url) == bool(service):
        yield required_value(path, "exactly one of url or service is required")
    elif url is not None:
        if not url.startswith("https://"):
            yield invalid_value(f"{path}.url", url, "'https' is the only allowed URL scheme; desired format: https://host[/path]")
        elif len(url) == len("https://"):
            yield invalid_value(f"{path}.url", url, "host must be specified; desired format: https://host[/path]")
    elif service is not None:
        for field in ("name", "namespace"):
            if not service.get(field):
                yield required_value(f"{path}.service.{field}")
        port = service.get("port")
        if port is not None and not 1 <= port <= 65535:
            yield invalid_value(f"{path}.service.port", port, "port is not valid: must be between 1 and 65535, inclusive")


def definition_update(new: Object, old: Object) -> Errors:
    """A changed definition; some of it may not change once objects may exist."""
    yield from definition(new, old)
    after, before = spec_of(new), spec_of(old)
    yield from unchanged("spec.group", after.get("group"), before.get("group"))
    if holds(old, "Established"):
        yield from unchanged("spec.scope", after.get("scope"), before.get("scope"))
        for field in ("kind", "plural"):
            yield from unchanged(f"spec.names.{field}", after["names"].get(field), before["names"].get(field))
    yield from stored_versions(new, old)


def stored_versions(obj: Object, old: Object) -> Errors:
    """Versions in which objects are stored must be known still."""
    versions = spec_of(obj).get("versions") or ()
    known = {each.get("name") for each in versions}
    stored = status_of(obj).get("storedVersions") or []
    if not stored:
        yield invalid_value("status.storedVersions", stored, "must have at least one stored version")
    for index, each in enumerate(stored):
        if each not in known:
            why = (
                f"missing from spec.versions; {each} was previously a storage version, and must remain in spec.versions until a storage "
                f"migration ensures no data remains persisted in {each} and removes {each} from status.storedVersions"
            )
            yield invalid_value(f"status.storedVersions[{index}]", each, why)
    for each in versions:
        if each.get("storage") and each.get("name") not in stored:
            yield invalid_value("status.storedVersions", stored, f"must have the storage version {each.get('name')}")
