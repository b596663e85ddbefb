"""Definitions of kinds for the tests, each in a group of its own so that tests do not meet."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

Obj = dict[str, Any]
SCHEMA: Obj = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "description": "What is wanted.",
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10, "description": "How big it is."},
                "color": {"type": "string", "default": "red", "enum": ["red", "green"]},
                "port": {"x-kubernetes-int-or-string": True},
                "maybe": {"type": "string", "nullable": True},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 3}},
                    },
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {
            "type": "object",
            "properties": {"size": {"type": "integer"}, "selector": {"type": "string"}, "phase": {"type": "string"}},
        },
    },
}


def version(name: str = "v1", *, storage: bool = True, schema: Obj | None = None, **more: Any) -> Obj:
    """A version with a status, a scale and a column."""
    found: Obj = {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": schema or SCHEMA},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.size",
                "statusReplicasPath": ".status.size",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }
    return {**found, **more}


def definition(group: str, *versions: Obj, scope: str = "Namespaced", **names: Any) -> Obj:
    """A CustomResourceDefinition of the kind Widget."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": "widgets", "kind": "Widget", **names},
            "versions": list(versions) or [version()],
        },
    }


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass
class Kind:
    """An established kind and the namespace that objects are put into."""

    http: httpx.Client
    group: str
    namespace: str

    @property
    def crd(self) -> str:
        return f"{CRDS}/widgets.{self.group}"

    def path(self, name: str = "", version: str = "v1") -> str:
        base = f"/apis/{self.group}/{version}/namespaces/{self.namespace}/widgets"
        return f"{base}/{name}" if name else base

    def widget(self, name: str, version: str = "v1", **spec: Any) -> Obj:
        kind = {"apiVersion": f"{self.group}/{version}", "kind": "Widget"}
        return {**kind, "metadata": {"name": name}, "spec": {"size": 3, **spec}}

    def create(self, name: str, version: str = "v1", status: int = 201, **spec: Any) -> Obj:
        answer = self.http.post(self.path(version=version), json=self.widget(name, version, **spec))
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, name: str = "", version: str = "v1") -> Obj:
        answer = self.http.get(self.path(name, version))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def merge(self, name: str, patch: Obj, status: int = 200, **query: str) -> Obj:
        headers = {"content-type": "application/merge-patch+json"}
        answer = self.http.patch(self.path(name), json=patch, headers=headers, params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    def apply(self, name: str, obj: Obj, manager: str, *, force: bool = False, version: str = "v1") -> httpx.Response:
        headers = {"content-type": "application/apply-patch+yaml"}
        query = {"fieldManager": manager, "force": str(force).lower()}
        return self.http.patch(self.path(name, version), json=obj, headers=headers, params=query)

    def redefine(self, change: Any) -> Obj:
        """Change the definition by a function."""
        crd = self.http.get(self.crd).json()
        change(crd["spec"])
        answer = self.http.put(self.crd, json=crd)
        assert answer.status_code == 200, answer.text
        return answer.json()


def establish(http: httpx.Client, crd: Obj) -> Obj:
    """Create a definition and wait until it is established."""
    answer = http.post(CRDS, json=crd)
    assert answer.status_code == 201, answer.text
    return until(http, f"{CRDS}/{crd['metadata']['name']}", lambda obj: condition(obj, "Established") == "True")


def condition(obj: Obj, kind: str) -> str:
    return next((each["status"] for each in obj["status"].get("conditions") or () if each["type"] == kind), "")


def until(http: httpx.Client, path: str, holds: Any, seconds: float = 20) -> Obj:
    """The object once it is as wished."""
    end = time.monotonic() + seconds
    while True:
        obj = http.get(path).json()
        if obj.get("kind") != "Status" and holds(obj):
            return obj
        assert time.monotonic() < end, obj
        time.sleep(0.02)


def gone(http: httpx.Client, path: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while (answer := http.get(path)).status_code != 404:
        assert time.monotonic() < end, answer.text
        time.sleep(0.02)


@contextlib.contextmanager
def kind(http: httpx.Client, namespace: str, *versions: Obj, **more: Any) -> Iterator[Kind]:
    """A kind for as long as the block lasts."""
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    establish(http, definition(group, *versions, **more))
    made = Kind(http, group, namespace)
    try:
        yield made
    finally:
        http.delete(made.crd)
