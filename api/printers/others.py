"""Rows of the classes and configurations that few look at."""

from __future__ import annotations

from datetime import datetime, timedelta

from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.printers.columns import AGE, NAME, NONE, UNSET, Cells, Column, Printer, name, since
from kubeling.api.times import human_duration


def _request(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    kinds = {each.get("type") for each in status.get("conditions") or ()}
    state = "Denied" if "Denied" in kinds else ("Approved" if "Approved" in kinds else "Pending")
    if "Failed" in kinds:
        state += ",Failed"
    if status.get("certificate"):
        state += ",Issued"
    seconds = spec.get("expirationSeconds")
    lasts = NONE if seconds is None else human_duration(timedelta(seconds=seconds))
    return [name(obj), since(obj, now), spec.get("signerName") or NONE, spec.get("username") or "", lasts, state]


SIGNING_REQUEST = Printer(
    (
        NAME,
        AGE,
        Column("SignerName", "Who shall sign it."),
        Column("Requestor", "Who asks for it."),
        Column("RequestedDuration", "How long it shall last."),
        Column("Condition", "Whether it was approved and issued."),
    ),
    _request,
)


def _priority(obj: Object, now: datetime) -> Cells:
    return [
        name(obj),
        obj.get("value") or 0,
        bool(obj.get("globalDefault")),
        since(obj, now),
        obj.get("preemptionPolicy") or "PreemptLowerPriority",
    ]


PRIORITY_CLASS = Printer(
    (
        NAME,
        Column("Value", "The priority.", "integer"),
        Column("Global-Default", "Whether pods without a class get it.", "boolean"),
        AGE,
        Column("PreemptionPolicy", "Whether its pods push out others."),
    ),
    _priority,
)


def _runtime(obj: Object, now: datetime) -> Cells:
    return [name(obj), obj.get("handler") or "", since(obj, now)]


RUNTIME_CLASS = Printer((NAME, Column("Handler", "Which of the runtime's handlers."), AGE), _runtime)


def _attachment(obj: Object, now: datetime) -> Cells:
    spec = spec_of(obj)
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = bool(status_of(obj).get("attached"))
    return [name(obj), spec.get("attacher") or "", volume, spec.get("nodeName") or "", attached, since(obj, now)]


VOLUME_ATTACHMENT = Printer(
    (
        NAME,
        Column("Attacher", "Driver that attaches it."),
        Column("PV", "Which volume."),
        Column("Node", "Which node."),
        Column("Attached", "Whether it is attached.", "boolean"),
        AGE,
    ),
    _attachment,
)


def _driver(obj: Object, now: datetime) -> Cells:
    spec = spec_of(obj)
    tokens = ",".join(each.get("audience") or "" for each in spec.get("tokenRequests") or ()) or "<unset>"
    return [
        name(obj),
        bool(spec.get("attachRequired", True)),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        tokens,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        since(obj, now),
    ]


CSI_DRIVER = Printer(
    (
        NAME,
        Column("AttachRequired", "Whether volumes are attached first.", "boolean"),
        Column("PodInfoOnMount", "Whether it is told of the pod.", "boolean"),
        Column("StorageCapacity", "Whether it reports room.", "boolean"),
        Column("TokenRequests", "Audiences of the tokens it gets."),
        Column("RequiresRepublish", "Whether it is called again and again.", "boolean"),
        Column("Modes", "Lives of volumes that it can do."),
        AGE,
    ),
    _driver,
)


def _csi_node(obj: Object, now: datetime) -> Cells:
    return [name(obj), len(spec_of(obj).get("drivers") or ()), since(obj, now)]


CSI_NODE = Printer((NAME, Column("Drivers", "How many drivers run there.", "integer"), AGE), _csi_node)


def _capacity(obj: Object, now: datetime) -> Cells:
    return [name(obj), obj.get("storageClassName") or "", obj.get("capacity") or UNSET]


CSI_CAPACITY = Printer((NAME, Column("StorageClassName", "Which class."), Column("Capacity", "Room that is left.")), _capacity)


def _webhooks(obj: Object, now: datetime) -> Cells:
    return [name(obj), len(obj.get("webhooks") or ()), since(obj, now)]


WEBHOOKS = Printer((NAME, Column("Webhooks", "How many webhooks.", "integer"), AGE), _webhooks)


def _policy(obj: Object, now: datetime) -> Cells:
    spec = spec_of(obj)
    kind = spec.get("paramKind")
    shown = f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else "<unset>"
    return [name(obj), len(spec.get("validations") or ()), shown, since(obj, now)]


ADMISSION_POLICY = Printer(
    (NAME, Column("Validations", "How many rules.", "integer"), Column("ParamKind", "Kind of its parameters."), AGE), _policy
)


def _policy_binding(obj: Object, now: datetime) -> Cells:
    spec = spec_of(obj)
    found = spec.get("paramRef") or {}
    called = f"{found['namespace']}/{found.get('name')}" if found.get("namespace") else found.get("name") or "<unset>"
    return [name(obj), spec.get("policyName") or "", called, since(obj, now)]


ADMISSION_BINDING = Printer(
    (NAME, Column("PolicyName", "Which policy."), Column("ParamRef", "Its parameters."), AGE), _policy_binding
)


def _flow(obj: Object, now: datetime) -> Cells:
    spec = spec_of(obj)
    missing = {each.get("type"): each.get("status") for each in status_of(obj).get("conditions") or ()}.get("Dangling") or "?"
    method = (spec.get("distinguisherMethod") or {}).get("type") or NONE
    level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    return [name(obj), level, spec.get("matchingPrecedence") or 0, method, since(obj, now), missing]


FLOW_SCHEMA = Printer(
    (
        NAME,
        Column("PriorityLevel", "Which level its requests are of."),
        Column("MatchingPrecedence", "Its place in line; the lowest that matches wins.", "integer"),
        Column("DistinguisherMethod", "What tells flows apart."),
        AGE,
        Column("MissingPL", "Whether its level does not exist."),
    ),
    _flow,
)


def _level(obj: Object, now: datetime) -> Cells:
    spec = spec_of(obj)
    source = spec.get("limited") or spec.get("exempt") or {}
    queuing = ((spec.get("limited") or {}).get("limitResponse") or {}).get("queuing") or {}
    counts = [queuing.get(field, NONE) for field in ("queues", "handSize", "queueLengthLimit")]
    return [name(obj), spec.get("type") or "", source.get("nominalConcurrencyShares", NONE), *counts, since(obj, now)]


PRIORITY_LEVEL = Printer(
    (
        NAME,
        Column("Type", "Limited or Exempt."),
        Column("NominalConcurrencyShares", "Its share of the seats."),
        Column("Queues", "How many queues."),
        Column("HandSize", "How many queues a flow may use."),
        Column("QueueLengthLimit", "Most requests in a queue."),
        AGE,
    ),
    _level,
)


def _component(obj: Object, now: datetime) -> Cells:
    status, message, error = "Unknown", "", ""
    for each in obj.get("conditions") or ():
        if each.get("type") == "Healthy":
            status = "Healthy" if each.get("status") == "True" else "Unhealthy"
            message, error = each.get("message") or "", each.get("error") or ""
    return [name(obj), status, message, error]


COMPONENT_STATUS = Printer(
    (
        NAME,
        Column("Status", "Whether it is healthy."),
        Column("Message", "What it says."),
        Column("Error", "What is wrong."),
    ),
    _component,
)
