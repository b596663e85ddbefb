"""What a StorageVersion says of several servers."""

from __future__ import annotations

from datetime import UTC, datetime

from kubeling.api.conditions import find_condition
from kubeling.api.storageversions import AGREED, entry, name_of_kind, with_entry, without

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_servers_agree_disagree_and_go() -> None:
    first = with_entry({}, entry("a", "g/v1", [], ["g/v1"]), NOW)
    assert first["commonEncodingVersion"] == "g/v1"
    assert first["storageVersions"][0]["decodableVersions"] == ["g/v1"]
    both = with_entry(first, entry("b", "g/v2", ["g/v1"], ["g/v1", "g/v2"]), NOW)
    assert "commonEncodingVersion" not in both
    condition = find_condition(both["conditions"], AGREED)
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "CommonEncodingVersionUnset")
    assert first["conditions"][0]["status"] == "True", "what was given stays as it was"
    changed = with_entry(both, entry("a", "g/v2", ["g/v1"], ["g/v2"]), NOW)
    assert [each["apiServerID"] for each in changed["storageVersions"]] == ["a", "b"]
    assert changed["commonEncodingVersion"] == "g/v2"
    assert without(both, {"b"}, NOW)["commonEncodingVersion"] == "g/v1"
    assert without(both, {"a", "b"}, NOW)["storageVersions"] == []
    assert without(both, {"c"}, NOW) is both
    assert with_entry(both, both["storageVersions"][0], NOW) is both


def test_names() -> None:
    assert (name_of_kind("", "pods"), name_of_kind("apps", "deployments")) == ("core.pods", "apps.deployments")
