"""Server-side apply and managedFields, by transcripts that keep one object while several managers write to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from kubeling.api.apply import apply, update_managers
from kubeling.api.apply.managers import ANCIENT, MAX_UPDATE_MANAGERS
from kubeling.api.builtin import schema_of
from kubeling.api.defaults import apply_defaults
from kubeling.api.errors import ApiError
from kubeling.api.meta import copy_json

START = datetime(2026, 1, 1, tzinfo=UTC)


class _Object:
    """One object and a clock that moves a minute with every command."""

    def __init__(self) -> None:
        self.live: dict[str, Any] | None = None
        self.minutes = 0

    def answer(self, case: Any) -> str:
        if case.verb == "new":
            self.live, self.minutes = None, 0
            return "ok"
        self.minutes += 1
        try:
            self._write(case)
        except ApiError as error:
            causes = "".join(f"\n  {each.get('reason')} {each.get('field')}: {each.get('message')}" for each in error.causes)
            return f"{error.code} {error.reason}: {error.message}{causes}"
        return self._shown(case.options.get("show", "all"))

    def _write(self, case: Any) -> None:
        document = case.documents[0]
        version, kind = document.get("apiVersion", "v1"), document.get("kind", "ConfigMap")
        schema, now = schema_of(version, kind), START + timedelta(minutes=self.minutes)
        door = case.options.get("subresource", "")
        ignored = (("spec",),) if door == "status" else (("status",),)
        before = copy_json(self.live), copy_json(document)
        manager = case.options.get("manager", "")
        if case.verb == "apply":
            force = case.options.get("force") == "true"
            result = apply(
                self.live,
                document,
                manager=manager,
                force=force,
                schema=schema,
                version=version,
                now=now,
                subresource=door,
                ignored=ignored,
            )
        else:
            result = copy_json(document)
            if self.live and "managedFields" not in result["metadata"]:
                result["metadata"]["managedFields"] = self.live["metadata"].get("managedFields", [])
            update_managers(self.live, result, manager=manager, schema=schema, now=now, subresource=door, ignored=ignored)
        assert (self.live, document) == before
        if case.options.get("defaults") == "true":
            apply_defaults(result)
        self.live = result

    def _shown(self, what: str) -> str:
        assert self.live is not None
        body = {key: value for key, value in self.live.items() if key not in ("apiVersion", "kind", "metadata")}
        metadata = {key: value for key, value in self.live["metadata"].items() if key not in ("name", "managedFields")}
        lines = (
            []
            if what == "owners"
            else [yaml.safe_dump({**({"metadata": metadata} if metadata else {}), **body}, sort_keys=False)]
        )
        for each in self.live["metadata"].get("managedFields", []) if what != "object" else ():
            door = f"/{each['subresource']}" if "subresource" in each else ""
            fields = json.dumps(each["fieldsV1"], separators=(",", ":")).replace("\\", "").replace(":{}", "")
            lines.append(f"{each['operation']} {each['manager']}{door} {each['time'][11:16]} {fields}\n")
        return "".join(lines)


@pytest.mark.parametrize("name", ["apply.txt", "managed_fields.txt"])
def test_transcript(name: str, transcript: Callable[..., None]) -> None:
    transcript(name, _Object().answer)


def _pod() -> dict[str, Any]:
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-0", "labels": {"app": "web", "tier": "front"}},
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "image": "nginx:1",
                    "ports": [{"containerPort": 80}],
                    "env": [{"name": "A", "value": "b"}],
                    "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
                    "readinessProbe": {"httpGet": {"port": 80}},
                }
            ]
        },
    }
    apply_defaults(pod)
    return pod


def test_recording_a_pod_is_cheap() -> None:
    """Generous by a factor of ten, so that it only fails when the cost changes its order."""
    pod, schema = _pod(), schema_of("v1", "Pod")
    update_managers(None, pod, manager="m", schema=schema, now=START)
    begun = time.perf_counter()
    for _ in range(100):
        pod["metadata"].pop("managedFields")
        update_managers(None, pod, manager="m", schema=schema, now=START)
    assert (time.perf_counter() - begun) / 100 < 0.001


def test_many_managers_are_folded_into_ancient_changes() -> None:
    schema, live = schema_of("v1", "ConfigMap"), None
    for index in range(MAX_UPDATE_MANAGERS + 5):
        data = {f"k{each}": "v" for each in range(index + 1)}
        new: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}
        if live:
            new["metadata"]["managedFields"] = live["metadata"]["managedFields"]
        update_managers(live, new, manager=f"m{index:02}", schema=schema, now=START + timedelta(minutes=index))
        live = new
    assert live is not None
    entries = live["metadata"]["managedFields"]
    assert len(entries) == MAX_UPDATE_MANAGERS
    ancient = next(each for each in entries if each["manager"] == ANCIENT)
    assert {"f:k0", "f:k4"} <= set(ancient["fieldsV1"]["f:data"])
    assert entries[-1]["manager"] == "m14"
