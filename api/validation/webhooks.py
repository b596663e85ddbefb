"""Webhook configurations (admissionregistration.k8s.io/v1), and what their parts share with policies: rules, match conditions, client configs."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from kubeling.api import cel, names
from kubeling.api.errors import duplicate_value, invalid_value, required_value, too_many_values, unsupported_value
from kubeling.api.meta import Object
from kubeling.api.validation.common import Errors, Map, checked, label_selector, one_of
from kubeling.api.validation.expressions import conditions_compile

REVIEW_VERSIONS = ("v1", "v1beta1")
SIDE_EFFECTS = ("None", "NoneOnDryRun")
OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT", "*")
MAX_CONDITIONS = 64
_FORMAT = "; desired format: https://host[/path]"


def mutating_webhooks(obj: Object) -> Errors:
    """MutatingWebhookConfiguration."""
    yield from _webhooks(obj, True)


def validating_webhooks(obj: Object) -> Errors:
    """ValidatingWebhookConfiguration."""
    yield from _webhooks(obj, False)


def _webhooks(obj: Object, mutating: bool) -> Errors:
    seen: set[str] = set()
    for at, each in enumerate(obj.get("webhooks") or ()):
        path = f"webhooks[{at}]"
        yield from _webhook(path, each)
        if mutating:
            yield from one_of(f"{path}.reinvocationPolicy", each.get("reinvocationPolicy"), ("IfNeeded", "Never"), required=False)
        name = each.get("name") or ""
        if name and name in seen:
            yield duplicate_value(f"{path}.name", name)
        seen.add(name)


def _webhook(path: str, hook: Map) -> Errors:
    yield from qualified_domain(f"{path}.name", hook.get("name") or "")
    yield from label_selector(f"{path}.namespaceSelector", hook.get("namespaceSelector"))
    yield from label_selector(f"{path}.objectSelector", hook.get("objectSelector"))
    for at, rule in enumerate(hook.get("rules") or ()):
        yield from rule_with_operations(f"{path}.rules[{at}]", rule)
    yield from one_of(f"{path}.failurePolicy", hook.get("failurePolicy"), ("Fail", "Ignore"), required=False)
    yield from one_of(f"{path}.matchPolicy", hook.get("matchPolicy"), ("Equivalent", "Exact"), required=False)
    effects = hook.get("sideEffects")
    if not effects:
        yield required_value(f"{path}.sideEffects", f"must specify one of {', '.join(SIDE_EFFECTS)}")
    elif effects not in SIDE_EFFECTS:
        yield unsupported_value(f"{path}.sideEffects", effects, SIDE_EFFECTS)
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        yield invalid_value(f"{path}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds")
    yield from client_config(f"{path}.clientConfig", hook.get("clientConfig") or {})
    yield from review_versions(f"{path}.admissionReviewVersions", hook.get("admissionReviewVersions") or ())
    conditions = hook.get("matchConditions") or ()
    yield from match_conditions(f"{path}.matchConditions", conditions)
    yield from conditions_compile(f"{path}.matchConditions", conditions, cel.REQUEST)


def qualified_domain(path: str, value: str) -> Errors:
    """A domain of three parts or more."""
    if not value:
        yield required_value(path)
        return
    yield from checked(path, value, names.dns1123_subdomain)
    if value.count(".") < 2:
        yield invalid_value(path, value, "should be a domain with at least three segments separated by dots")


def client_config(path: str, config: Map) -> Errors:
    """Exactly one of url and service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        yield required_value(path, "exactly one of url or service is required")
    elif url is not None:
        yield from _url(f"{path}.url", url)
    else:
        yield from service_reference(f"{path}.service", service or {})


def _url(path: str, url: str) -> Errors:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        yield required_value(path, f"url must be a valid URL: {error}{_FORMAT}")
        return
    if parts.scheme != "https":
        yield invalid_value(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORMAT}")
    user, at, host = parts.netloc.rpartition("@")
    if not host:
        yield invalid_value(path, host, f"host must be specified{_FORMAT}")
    if at:
        yield invalid_value(path, user, "user information is not permitted in the URL")
    if parts.fragment:
        yield invalid_value(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        yield invalid_value(path, parts.query, "query parameters are not permitted in the URL")


def service_reference(path: str, service: Map) -> Errors:
    """Namespace and name, a port that is one, a path that begins at the root."""
    if not service.get("name"):
        yield required_value(f"{path}.name", "service name is required")
    if not service.get("namespace"):
        yield required_value(f"{path}.namespace", "service namespace is required")
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        yield invalid_value(f"{path}.port", port, "port is not valid: must be between 1 and 65535, inclusive")
    where = service.get("path")
    if not where or where == "/":
        return
    if where == "//":
        yield invalid_value(f"{path}.path", where, "segment[0] may not be empty")
        return
    if not where.startswith("/"):
        yield invalid_value(f"{path}.path", where, "must start with a '/'")
        return
    steps = where[1:].removesuffix("/").split("/")
    for at, step in enumerate(steps):
        if not step:
            yield invalid_value(f"{path}.path", where, f"segment[{at}] may not be empty")
            continue
        for message in names.dns1123_subdomain(step):
            yield invalid_value(f"{path}.path", where, f"segment[{at}]: {message}")


def review_versions(path: str, versions: Sequence[str]) -> Errors:
    """Versions of a review, of which we speak at least one."""
    if not versions:
        yield required_value(path, f"must specify one of {', '.join(REVIEW_VERSIONS)}")
        return
    seen: set[str] = set()
    for at, version in enumerate(versions):
        if version in seen:
            yield invalid_value(f"{path}[{at}]", version, "duplicate version")
            continue
        seen.add(version)
        yield from checked(f"{path}[{at}]", version, names.dns1035_label)
    if not seen & set(REVIEW_VERSIONS):
        yield invalid_value(path, list(versions), f"must include at least one of {', '.join(REVIEW_VERSIONS)}")


def rule_with_operations(path: str, rule: Map) -> Errors:
    """A rule."""
    operations = rule.get("operations") or ()
    if not operations:
        yield required_value(f"{path}.operations")
    if len(operations) > 1 and "*" in operations:
        detail = "if '*' is present, must not specify other operations"
        yield invalid_value(f"{path}.operations", list(operations), detail)
    for at, operation in enumerate(operations):
        if operation not in OPERATIONS:
            yield unsupported_value(f"{path}.operations[{at}]", operation, OPERATIONS)
    for field, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(field) or ()
        if not values:
            yield required_value(f"{path}.{field}")
        if len(values) > 1 and "*" in values:
            yield invalid_value(f"{path}.{field}", list(values), f"if '*' is present, must not specify other {what}")
        if field == "apiVersions":
            yield from (required_value(f"{path}.{field}[{at}]") for at, value in enumerate(values) if not value)
    yield from _resources(f"{path}.resources", rule.get("resources") or ())
    yield from one_of(f"{path}.scope", rule.get("scope"), ("*", "Cluster", "Namespaced"), required=False)


def _resources(path: str, resources: Sequence[str]) -> Errors:
    if not resources:
        yield required_value(path)
        return
    if "*/*" in resources and len(resources) > 1:
        yield invalid_value(path, list(resources), "if '*/*' is present, must not specify other resources")
    seen: set[tuple[str, str]] = set()
    for at, each in enumerate(resources):
        if not each:
            yield required_value(f"{path}[{at}]")
            continue
        plural, _, subresource = each.partition("/")
        if (plural, "*") in seen and subresource:
            yield invalid_value(f"{path}[{at}]", each, f"if '{plural}/*' is present, must not specify {each}")
        if ("*", subresource) in seen and subresource and plural != "*":
            yield invalid_value(f"{path}[{at}]", each, f"if '*/{subresource}' is present, must not specify {each}")
        seen.add((plural, subresource))


def match_conditions(path: str, conditions: Sequence[Map]) -> Errors:
    """Names and expressions; whether these are CEL is :func:`.expressions.conditions_compile`'s to say."""
    if len(conditions) > MAX_CONDITIONS:
        yield too_many_values(path, len(conditions), MAX_CONDITIONS)
        return
    seen: set[str] = set()
    for at, each in enumerate(conditions):
        name = each.get("name") or ""
        if not (each.get("expression") or "").strip():
            yield required_value(f"{path}[{at}].expression")
        if not name:
            yield required_value(f"{path}[{at}].name")
            continue
        yield from checked(f"{path}[{at}].name", name, names.qualified_name)
        if name in seen:
            yield duplicate_value(f"{path}[{at}].name", name)
        seen.add(name)
