"""A policy's status says that it was seen."""

from __future__ import annotations

from typing import Any

from kubeling.api.resources import VALIDATING_ADMISSION_POLICIES
from kubeling.client.rest import Client


async def test_a_policy_is_observed(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    manager("--controllers=validatingadmissionpolicy-status")
    rule = {"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["nothings"]}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "true"}]}
    made = await client.create(VALIDATING_ADMISSION_POLICIES, {"metadata": {"name": f"{namespace}.example.com"}, "spec": spec})

    async def observed() -> bool:
        found = await client.get(VALIDATING_ADMISSION_POLICIES, made["metadata"]["name"])
        return (found.get("status") or {}).get("observedGeneration") == found["metadata"]["generation"]

    await tools.until(observed, "the policy was seen")
    changed = {"spec": {"validations": [{"expression": "1 == 1"}]}}
    await client.patch(VALIDATING_ADMISSION_POLICIES, made["metadata"]["name"], changed)
    await tools.until(observed, "and its change")
    found = await client.get(VALIDATING_ADMISSION_POLICIES, made["metadata"]["name"])
    assert found["metadata"]["generation"] == 2
    await client.delete(VALIDATING_ADMISSION_POLICIES, made["metadata"]["name"])
