"""The vocabulary: everything is described and numbered, and every kind that is served has its types."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kubeling.api import builtin, resources
from kubeling.api.schema import Schema

MESSAGES = [name for package in builtin.PACKAGES for name in builtin.messages(package)]


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_and_field_is_described_and_numbered_once(name: str) -> None:
    schema = builtin.message(name)
    assert schema.description.endswith("."), name
    for field in schema.fields.values():
        assert field.description.endswith((".", "…")), (name, field.name)
        assert isinstance(field.schema, Schema)
    own = [field.number for field in schema.fields.values() if field.number and not field.inline_of]
    numbers = own + [field.number for field in schema.inlines.values()]
    assert len(numbers) == len(set(numbers))
    if not builtin.is_kind(schema):
        assert all(field.number for field in schema.fields.values())


@pytest.mark.parametrize("name", MESSAGES)
def test_keys_of_lists_are_fields_of_their_items(name: str) -> None:
    for field in builtin.message(name).fields.values():
        element = field.schema.element
        if field.schema.list_type == "map":
            assert element is not None
            assert set(field.schema.list_map_keys) <= set(element.fields), (name, field.name)
            assert field.schema.list_map_keys
        if field.patch_merge_key:
            assert "merge" in field.patch_strategy
            assert element is not None
            assert field.patch_merge_key in element.fields


@pytest.mark.parametrize("resource", resources.BUILTIN, ids=lambda each: f"{each.group_version}.{each.plural}")
def test_every_resource_has_its_kind_its_list_and_the_bodies_of_its_subresources(resource: resources.Resource) -> None:
    schema = builtin.schema_of(resource.group_version, resource.kind)
    assert "metadata" in schema.fields
    if "list" in resource.verbs:
        items = builtin.schema_of(resource.group_version, f"{resource.kind}List").fields["items"].schema
        assert items.element is schema
    for subresource in resource.subresources:
        if subresource.kind:
            group = f"{subresource.group}/" if subresource.group else ""
            assert builtin.schema_of(f"{group}{subresource.version or resource.version}", subresource.kind)


def test_the_merge_facts_that_kubectl_relies_on() -> None:
    pod = builtin.message("core.v1.PodSpec").fields
    assert pod["containers"].patch_merge_key == "name"
    assert pod["volumes"].patch_strategy == {"merge", "retainKeys"}
    assert pod["tolerations"].schema.list_type == "atomic"
    assert not pod["tolerations"].patch_merge_key
    ports = builtin.message("core.v1.Container").fields["ports"]
    assert (ports.patch_merge_key, ports.schema.list_map_keys) == ("containerPort", ("containerPort", "protocol"))
    service = builtin.message("core.v1.ServiceSpec").fields["ports"]
    assert (service.patch_merge_key, service.schema.list_map_keys) == ("port", ("port", "protocol"))
    meta = builtin.message("meta.v1.ObjectMeta").fields
    assert meta["ownerReferences"].schema.list_map_keys == ("uid",)
    assert (meta["finalizers"].schema.list_type, meta["finalizers"].patch_strategy) == ("set", {"merge"})


def test_atomic_messages_and_the_exception() -> None:
    assert builtin.message("meta.v1.LabelSelector").atomic
    assert builtin.message("core.v1.ObjectReference").atomic
    assert not builtin.message("core.v1.PersistentVolumeSpec").fields["claimRef"].schema.atomic


def test_reserved_words_and_recursive_messages() -> None:
    assert builtin.message("meta.v1.ListMeta").fields["continue"].number == 3
    assert builtin.message("networking.v1.NetworkPolicyIngressRule").fields["from"].number == 2
    props = builtin.message("apiextensions.v1.JSONSchemaProps")
    assert props.fields["properties"].schema.element is props
    assert props.fields["not"].schema is props


def test_kinds_are_found_by_api_version_and_options_under_all_of_them() -> None:
    assert builtin.schema_of("rbac.authorization.k8s.io/v1", "Role").name == "rbac.v1.Role"
    assert builtin.schema_of("policy/v1", "DeleteOptions").name == "meta.v1.DeleteOptions"
    assert builtin.schema_of("autoscaling/v1", "Scale").name == "autoscaling.v1.Scale"
    for api_version, kind in (("v1", "Deployment"), ("example.com/v1", "Widget"), ("v1", "PodSpec"), ("v1", "Typed2")):
        with pytest.raises(KeyError):
            builtin.schema_of(api_version, kind)
    with pytest.raises(KeyError):
        builtin.message("core.v1.Nothing")


def test_importing_types_does_not_import_pydantic_or_protobuf() -> None:
    modules = ", ".join(f"kubeling.api.types.{module}" for modules in builtin.PACKAGES.values() for module in modules)
    check = f"import sys, {modules}, kubeling.api.builtin; sys.exit(any(name.startswith(('pydantic', 'google')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
