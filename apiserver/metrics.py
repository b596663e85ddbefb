"""Prometheus metrics under upstream's names.

`labels()` of the Prometheus client takes a lock and builds a tuple; on the hot path the children are looked up in plain dicts instead.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2, 4, 8, 15, 30, 60)

REQUESTS = Counter(
    "apiserver_request",
    "Requests answered, by verb, resource and HTTP status code.",
    ["verb", "group", "version", "resource", "subresource", "scope", "code"],
)
DURATION = Histogram(
    "apiserver_request_duration_seconds",
    "How long requests took, from the head of the request to the end of the answer; watches excluded.",
    ["verb", "group", "version", "resource", "subresource", "scope"],
    buckets=_BUCKETS,
)
LONG_RUNNING = Gauge(
    "apiserver_longrunning_requests",
    "Watches, log streams, exec and port-forward sessions that are open.",
    ["verb", "group", "version", "resource", "subresource", "scope"],
)
INFLIGHT = Gauge("apiserver_current_inflight_requests", "Requests being worked on.", ["request_kind"])
STORE = Histogram(
    "etcd_request_duration_seconds",
    "How long calls to the store took.",
    ["operation"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
TERMINATED_WATCHERS = Counter(
    "apiserver_terminated_watchers", "Watchers that were cut off because they were too slow.", ["resource"]
)
CACHE_OBJECTS = Gauge("apiserver_storage_objects", "Objects in the watch cache.", ["resource"])

_AUTH_BUCKETS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384)
AUTHENTICATION = Counter("authentication_attempts", "Requests by whether their credentials were good.", ["result"])
AUTHENTICATION_SECONDS = Histogram(
    "authentication_duration_seconds", "How long it took to find out who asks.", ["result"], buckets=_AUTH_BUCKETS
)
USERS = Counter("authenticated_user_requests", "Requests by the kind of user.", ["username"])
AUTHORIZATION = Counter("authorization_attempts", "Requests by what the authorizer said.", ["result"])
AUTHORIZATION_SECONDS = Histogram(
    "authorization_duration_seconds", "How long it took to find out whether they may.", ["result"], buckets=_AUTH_BUCKETS
)
_authentications = {each: (AUTHENTICATION.labels(each), AUTHENTICATION_SECONDS.labels(each)) for each in ("success", "failure")}
_authorizations = {each: (AUTHORIZATION.labels(each), AUTHORIZATION_SECONDS.labels(each)) for each in ("allowed", "denied")}
_users = {each: USERS.labels(each) for each in ("email_id", "other")}

#: Children of INFLIGHT, by whether a verb changes anything.
READING, MUTATING = INFLIGHT.labels("readOnly"), INFLIGHT.labels("mutating")

_requests: dict[tuple[str, ...], Counter] = {}
_durations: dict[tuple[str, ...], Histogram] = {}
_store: dict[str, Histogram] = {}
#: Labels come from request paths: only known kinds get here, and this bound holds whatever happens.
_MAX_CHILDREN = 20_000


def observe_request(labels: tuple[str, str, str, str, str, str], code: int, seconds: float, long_running: bool) -> None:
    """Count one answered request. `labels` are verb, group, version, resource, subresource and scope."""
    key = (*labels, str(code))
    counter = _requests.get(key)
    if counter is None:
        if len(_requests) >= _MAX_CHILDREN:
            return
        counter = _requests[key] = REQUESTS.labels(*key)
    counter.inc()
    if long_running:
        return
    histogram = _durations.get(labels)
    if histogram is None:
        histogram = _durations[labels] = DURATION.labels(*labels)
    histogram.observe(seconds)


def observe_authentication(user: str | None, seconds: float) -> None:
    """Count one attempt to know a caller; None for credentials that were refused. Users have no labels of their own, as upstream: there may be many."""
    counter, histogram = _authentications["failure" if user is None else "success"]
    counter.inc()
    histogram.observe(seconds)
    if user is not None:
        _users["email_id" if "@" in user else "other"].inc()


def observe_authorization(allowed: bool, seconds: float) -> None:
    """Count one decision."""
    counter, histogram = _authorizations["allowed" if allowed else "denied"]
    counter.inc()
    histogram.observe(seconds)


def observe_store(operation: str, seconds: float) -> None:
    """Count one call to the store."""
    histogram = _store.get(operation)
    if histogram is None:
        histogram = _store[operation] = STORE.labels(operation)
    histogram.observe(seconds)
