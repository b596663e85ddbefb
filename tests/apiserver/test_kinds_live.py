"""Every built-in kind of the table in tests/api/testdata/kinds.yaml, through the wire: made, shown by kubectl in its columns, and refused."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import httpx
import pytest

from kubeling.api.printers import columns_of
from kubeling.api.resources import BUILTIN, Resource
from tests.api.machinery.test_kinds import TABLE, _put, good
from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import Kubectl, Server
from tests.kubectls import newest

pytestmark = pytest.mark.live
KINDS = [each for each in BUILTIN if "update" in each.verbs and each.group_version != "autoscaling/v1"]


def _mine(resource: Resource, ns: Namespace) -> dict[str, Any]:
    """The table's object, where nothing else is called so."""
    obj = good(resource)
    metadata = obj["metadata"]
    metadata.pop("uid")
    if resource.namespaced:
        metadata["namespace"] = ns.name
    elif metadata["name"] == "x":
        metadata["name"] = ns.name if resource.kind != "Namespace" else f"{ns.name}-more"
    for field in ("involvedObject", "regarding"):
        if field in obj:
            obj[field]["namespace"] = ns.name
    if resource.kind == "Service":
        obj["spec"] = {"ports": obj["spec"]["ports"]}
    elif resource.kind == "APIService":
        metadata["name"] = "v1.c.d"
        obj["spec"]["group"] = "c.d"
    elif resource.group == "events.k8s.io":
        strict = {
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "a.b/c",
            "reportingInstance": "i",
            "action": "A",
        }
        obj |= strict
        metadata["name"] = "strict"
    return obj


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory):
    """One object of each kind."""
    from tests.apiserver.conftest import make_namespace

    with server.client() as http:
        ns = make_namespace(http)
        paths = []
        for each in KINDS:
            obj = _mine(each, ns)
            answer = http.post(each.path(ns.name if each.namespaced else None), json=obj)
            assert answer.status_code == 201, f"{each.qualified}: {answer.text}"
            paths.append(each.path(ns.name if each.namespaced else None, answer.json()["metadata"]["name"]))
        kubectl = Kubectl(
            newest()[0], server.kubeconfig(tmp_path_factory.mktemp("k") / "config"), tmp_path_factory.mktemp("cache")
        )
        yield ns, kubectl
        for path in reversed(paths):
            http.delete(path)
        http.delete(f"/api/v1/namespaces/{ns.name}")


@pytest.mark.skipif(not newest(), reason="no kubectl")
def test_kubectl_shows_every_kind_in_its_columns(made: tuple[Namespace, Kubectl]) -> None:
    ns, kubectl = made
    for namespaced in (True, False):
        asked = [each for each in KINDS if each.namespaced == namespaced]
        called = ",".join(f"{each.plural}.{each.version}.{each.group}" if each.group else each.plural for each in asked)
        where = ["-n", ns.name] if namespaced else []
        text = kubectl("get", called, "-o", "wide", *where)
        headers = [re.split(r"\s{2,}", part.splitlines()[0].strip()) for part in re.split(r"\n\s*\n", text.strip())]
        expected = [[column["name"].upper() for column in columns_of(each)] for each in asked]
        assert headers == expected


def test_what_is_bad_is_refused_with_its_cause(made: tuple[Namespace, Kubectl], http: httpx.Client) -> None:
    ns, _ = made
    let_in: list[str] = []
    for each in KINDS:
        for path, (value, field) in TABLE[each.qualified].get("bad", {}).items():
            obj = deepcopy(_mine(each, ns))
            if obj["metadata"]["name"] in ("x", "strict"):
                obj["metadata"]["name"] = "y"
            _put(obj, path, value)
            answer = http.post(each.path(ns.name if each.namespaced else None), json=obj, params={"dryRun": "All"})
            causes = [cause.get("field") for cause in (answer.json().get("details") or {}).get("causes") or ()]
            if answer.status_code != 422 or field not in causes:
                let_in.append(f"{each.qualified} {path}: {answer.status_code} {answer.text[:300]}")
    assert not let_in, "\n".join(let_in)


def test_what_is_odd_is_let_in_with_a_warning(ns: Namespace) -> None:
    def said(answer: httpx.Response) -> list[str]:
        return [
            part.partition('"')[2][:-1].replace('\\"', '"') for part in answer.headers.get_list("warning", split_commas=False)
        ]

    pod = {
        "metadata": {"name": "a.b"},
        "spec": {"nodeSelector": {"beta.kubernetes.io/os": "x"}, "containers": [{"name": "c", "image": "i"}]},
    }
    name = (
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
    )
    odd = [
        f"{name}: [must not contain dots]",
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
    ]
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    dry = ns.http.post(ns.path("pods") + "?dryRun=All", json=pod)
    assert (dry.status_code, said(dry)) == (201, odd)
    assert said(ns.http.post(ns.path("pods"), json=pod)) == odd
    # People do not change pods, and what does would not read it.
    merge = {"content-type": "application/merge-patch+json"}
    changed = ns.http.patch(ns.path("pods", "a.b"), json={"metadata": {"labels": {"a": "b"}}}, headers=merge)
    assert (changed.status_code, said(changed)) == (200, [])
    # What is wrong is refused without further words.
    pod["spec"]["containers"] = []
    assert said(ns.http.post(ns.path("pods"), json=pod)) == []
    assert said(ns.http.get(ns.path("endpoints"))) == [
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    ]
    assert said(ns.http.get("/api/v1/componentstatuses")) == ["v1 ComponentStatus is deprecated in v1.19+"]
