"""The audit of the built-in kinds: every one is in both tables of testdata/, so that a gap is seen.

`kinds.txt` is what upstream says of a kind; `kinds.yaml` has an object of each that is let in, changes of it that are not, and what an update may do.
"""

from __future__ import annotations

import base64
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubeling.api.defaults import apply_defaults
from kubeling.api.meta import Object, metadata_of
from kubeling.api.printers import columns_of
from kubeling.api.resources import BUILTIN, Resource
from kubeling.api.strategies import strategy_of
from kubeling.api.validation import validate_create, validate_status_update, validate_update
from kubeling.api.validation.registry import _named, validators

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TESTDATA = Path(__file__).parents[1] / "testdata"
TABLE: dict[str, dict[str, Any]] = yaml.safe_load((TESTDATA / "kinds.yaml").read_text())
KEPT = [each for each in BUILTIN if "update" in each.verbs]
#: The older version of a kind, which is validated in the newer one.
OLDER = "autoscaling/v1"


def test_upstreams_table() -> None:
    lines: list[str] = []
    for each in BUILTIN:
        rules = strategy_of(each)
        flags = [
            ("+", rules.has_generation),
            ("c", rules.allow_create_on_update),
            ("v", not rules.allow_unconditional_update),
        ]
        words = [
            each.group_version,
            each.plural,
            "namespaced" if each.namespaced else "cluster",
            ",".join(each.short_names) or "-",
            ",".join(each.categories) or "-",
            ",".join(door.name for door in each.subresources) or "-",
            "".join(letter for letter, on in flags if on) or "-",
        ]
        lines.append(" ".join(words))
        shown = columns_of(each) if {"get", "list"} & set(each.verbs) else []
        columns = ", ".join(column["name"] + ("*" if column.get("priority") else "") for column in shown)
        lines.append(f"    {columns or '-'}")
        selectable = sorted(rules.selectable_names - {"metadata.name", "metadata.namespace"})
        if selectable:
            lines.append(f"    by {' '.join(selectable)}")
    expected = [line for line in (TESTDATA / "kinds.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == expected


def test_every_kind_is_in_the_table() -> None:
    assert {each.qualified for each in KEPT} == set(TABLE)


def test_every_validator_is_where_it_is_said_to_be() -> None:
    assert all(callable(_named(each)) for each in validators())


def _request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def _put(obj: Object, path: str, value: Any) -> None:
    *parents, last = (int(each) if each.isdigit() else each for each in path.split("."))
    at: Any = obj
    for each in parents:
        at = at[each] if isinstance(each, int) else at.setdefault(each, {})
    if value is None:
        at.pop(last, None)
    else:
        at[last] = value


def good(resource: Resource) -> Object:
    """The kind's own object, as the server has it when it validates."""
    obj: Object = deepcopy(TABLE[resource.qualified]["good"])
    metadata = obj.setdefault("metadata", {})
    metadata.setdefault("name", "x")
    metadata["uid"] = "u"
    if resource.namespaced:
        metadata["namespace"] = "d"
    if resource.kind == "CertificateSigningRequest":
        obj["spec"]["request"] = _request()
    return obj | {"apiVersion": resource.group_version, "kind": resource.kind}


def created(obj: Object, resource: Resource) -> Object:
    apply_defaults(obj)
    strategy_of(resource).prepare_for_create(obj, NOW)
    return obj


def _cases(what: str) -> list[Any]:
    found = []
    for each in KEPT:
        for path, value in TABLE[each.qualified].get(what, {}).items():
            if each.group_version != OLDER:
                found.append(pytest.param(each, path, value, id=f"{each.qualified}-{path}"))
    return found


ALL = pytest.mark.parametrize("resource", KEPT, ids=lambda each: f"{each.plural}.{each.group_version}")


@ALL
def test_what_is_good_is_let_in_and_written_again(resource: Resource) -> None:
    obj = created(good(resource), resource)
    assert [str(each) for each in validate_create(obj, resource)] == []
    again = deepcopy(obj)
    strategy_of(resource).prepare_for_update(again, obj)
    assert again == obj
    assert [str(each) for each in validate_update(again, obj, resource)] == []


@pytest.mark.parametrize(("resource", "path", "value"), _cases("bad"))
def test_what_is_bad_is_refused(resource: Resource, path: str, value: Any) -> None:
    obj = good(resource)
    _put(obj, path, value[0])
    found = [each.field for each in validate_create(created(obj, resource), resource)]
    assert value[1] in found


@pytest.mark.parametrize(("resource", "path", "value"), _cases("fixed"))
def test_what_is_fixed_does_not_change(resource: Resource, path: str, value: Any) -> None:
    old, new = created(good(resource), resource), created(good(resource), resource)
    _put(new, path, value[0])
    if path == "spec.clusterIPs":
        new["spec"]["clusterIP"] = value[0][0]
    strategy_of(resource).prepare_for_update(new, old)
    found = [each.field for each in validate_update(new, old, resource)]
    assert any(each.startswith(value[1]) for each in found), found


@ALL
def test_the_generation_counts_what_is_wished_for(resource: Resource) -> None:
    rules, entry = strategy_of(resource), TABLE[resource.qualified]
    old = created(good(resource), resource)
    assert metadata_of(old).get("generation") == (1 if rules.has_generation else None)
    labelled, changed = deepcopy(old), deepcopy(old)
    _put(labelled, "metadata.annotations", {"some": "thing"})
    for path, value in entry["spec"].items():
        _put(changed, path, value)
    apply_defaults(changed)
    rules.prepare_for_update(changed, old)
    assert changed != old
    assert [str(each) for each in validate_update(changed, old, resource)] == []
    if not rules.has_generation:
        return
    counts = resource.plural != "priorityclasses"
    assert metadata_of(changed)["generation"] == (2 if counts else 1)
    rules.prepare_for_update(labelled, old)
    assert metadata_of(labelled)["generation"] == (2 if resource.plural == "deployments" else 1)


@ALL
def test_each_door_changes_its_half(resource: Resource) -> None:
    rules, entry = strategy_of(resource), TABLE[resource.qualified]
    assert rules.has_status == ("status" in entry)
    if not rules.has_status:
        return
    old = created(good(resource), resource)
    through_main, through_status = deepcopy(old), deepcopy(old)
    for path, value in entry["status"].items():
        _put(through_main, path, value)
        _put(through_status, path, value)
    for path, value in entry["spec"].items():
        if not path.startswith("metadata"):
            _put(through_status, path, value)
    wanted = deepcopy(through_status["status"])
    rules.prepare_for_update(through_main, old)
    assert through_main.get("status") == old.get("status")
    rules.prepare_for_status_update(through_status, old)
    assert through_status.get("spec") == old.get("spec")
    assert through_status["status"].keys() >= wanted.keys()
    assert metadata_of(through_status).get("generation") == metadata_of(old).get("generation")
    if resource.qualified not in ("services", "ingresses.networking.k8s.io"):
        assert [str(each) for each in validate_status_update(through_status, old, resource)] == []
