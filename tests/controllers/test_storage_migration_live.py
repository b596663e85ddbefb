"""Objects of a custom kind are stored in its new storage version when a StorageVersionMigration says so, and StorageVersions say which that is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubeling.api.conditions import get_condition, is_true
from kubeling.api.errors import ApiError
from kubeling.api.resources import CUSTOM_RESOURCE_DEFINITIONS as DEFINITIONS
from kubeling.api.resources import STORAGE_VERSION_MIGRATIONS as MIGRATIONS
from kubeling.api.resources import STORAGE_VERSIONS, Resource
from kubeling.api.resources import VALIDATING_ADMISSION_POLICIES as POLICIES
from kubeling.api.resources import VALIDATING_ADMISSION_POLICY_BINDINGS as BINDINGS
from kubeling.api.storageversions import AGREED
from kubeling.client.rest import Client

pytestmark = pytest.mark.live


def definition(group: str, storage: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": each, "served": True, "storage": each == storage, "schema": schema} for each in ("v1", "v2")]
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    }


def policy(group: str, name: str) -> list[dict[str, Any]]:
    """Refuses every update of `b`."""
    rule = {"apiGroups": [group], "apiVersions": ["*"], "resources": ["widgets"], "operations": ["UPDATE"]}
    refused = {"expression": "object.metadata.name != 'b'", "message": "b stays"}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [refused]}
    kinds = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    return [
        {**kinds, "kind": "ValidatingAdmissionPolicy", "spec": spec},
        {**kinds, "kind": "ValidatingAdmissionPolicyBinding", "spec": {"policyName": name, "validationActions": ["Deny"]}},
    ]


async def migrate(client: Client, tools: Any, name: str, group: str, plural: str = "widgets") -> dict[str, Any]:
    """Ask for a migration and wait for its end."""
    spec = {"resource": {"group": group, "version": "v1", "resource": plural}}
    body = {"apiVersion": MIGRATIONS.group_version, "kind": MIGRATIONS.kind, "metadata": {"name": name}, "spec": spec}
    await client.create(MIGRATIONS, body)

    async def ended() -> Any:
        found = await client.get(MIGRATIONS, name)
        return found if is_true(found, "Succeeded") or is_true(found, "Failed") else None

    found: dict[str, Any] = await tools.until(ended, f"the end of {name}")
    return found


async def test_objects_are_stored_anew(client: Client, tools: Any, manager: Any, namespace: str) -> None:
    group = f"{namespace}.example.com"
    manager("--controllers=storage-version-migrator")
    await client.create(DEFINITIONS, definition(group, "v1"))
    widgets = Resource(group, "v1", "widgets", "Widget")
    for each in "abc":
        obj = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": each}, "spec": {"size": 1}}
        await tools.until(lambda obj=obj: client.create(widgets, obj, namespace), "it is served")
    for each in policy(group, namespace):
        await client.create(POLICIES if each["kind"] == "ValidatingAdmissionPolicy" else BINDINGS, each)

    async def guarded() -> bool:
        try:
            await client.patch(widgets, "b", {"spec": {"size": 2}}, namespace)
        except ApiError as error:
            return "b stays" in str(error)
        return False

    await tools.until(guarded, "the policy is known")
    patched = await client.patch(DEFINITIONS, f"widgets.{group}", {"spec": definition(group, "v2")["spec"]})
    assert patched["status"]["storedVersions"] == ["v1", "v2"]
    before = await _versions(client, widgets, namespace)
    said = await tools.until(lambda: _stored(client, group, f"{group}/v2"), "the server says in which version it writes")
    assert (said["decodableVersions"], said["servedVersions"]) == ([f"{group}/v1", f"{group}/v2"],) * 2
    pods = await client.get(STORAGE_VERSIONS, "core.pods")
    assert (pods["status"]["commonEncodingVersion"], is_true(pods, AGREED)) == ("v1", True)

    failed = await migrate(client, tools, f"{namespace}-1", group)
    said = get_condition(failed, "Failed")
    assert said is not None
    assert f"widgets.{group} {namespace}/b could not be written" in said["message"]
    assert get_condition(failed, "Running")["status"] == "False"
    await client.delete(BINDINGS, namespace)
    await client.delete(POLICIES, namespace)
    await tools.until(lambda: _writable(client, widgets, namespace), "the policy is gone")

    done = await migrate(client, tools, f"{namespace}-2", group)
    assert is_true(done, "Succeeded"), done
    after = await _versions(client, widgets, namespace)
    assert all(after[each] != before[each] for each in "abc"), "each was written"

    # Nothing is stored in v1 any more: it can go.
    stored = await client.get(DEFINITIONS, f"widgets.{group}")
    await client.update_status(DEFINITIONS, {**stored, "status": {**stored["status"], "storedVersions": ["v2"]}})
    only = {**definition(group, "v2")["spec"], "versions": definition(group, "v2")["spec"]["versions"][1:]}
    await client.patch(DEFINITIONS, f"widgets.{group}", {"spec": only})
    second = Resource(group, "v2", "widgets", "Widget")
    listed = await tools.until(lambda: client.list(second, namespace), "v2 is served")
    assert [each["spec"] for each in listed["items"]] == [{"size": 1}] * 3

    nothing = await migrate(client, tools, f"{namespace}-3", group, "gadgets")
    assert is_true(nothing, "Failed")
    await client.delete(DEFINITIONS, f"widgets.{group}")

    async def forgotten() -> bool:
        return f"{group}.widgets" not in {each["metadata"]["name"] for each in (await client.list(STORAGE_VERSIONS))["items"]}

    await tools.until(forgotten, "nobody speaks of the kind any more")
    await asyncio.gather(*(client.delete(MIGRATIONS, f"{namespace}-{each}") for each in (1, 2, 3)))


async def _stored(client: Client, group: str, version: str) -> Any:
    """What the one server says, once it says that it writes that version."""
    said = (await client.get(STORAGE_VERSIONS, f"{group}.widgets"))["status"]["storageVersions"][0]
    return said if said["encodingVersion"] == version else None


async def _versions(client: Client, resource: Resource, namespace: str) -> dict[str, str]:
    listed = await client.list(resource, namespace)
    return {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in listed["items"]}


async def _writable(client: Client, resource: Resource, namespace: str) -> bool:
    try:
        await client.patch(resource, "b", {"spec": {"size": 1}}, namespace, params={"dryRun": "All"})
    except ApiError:
        return False
    return True
