"""PodSecurity at a live apiserver."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import deployment, pod

pytestmark = pytest.mark.live
_PREFIX = "pod-security.kubernetes.io/"


def label(ns: Namespace, **labels: str) -> httpx.Response:
    wanted = {_PREFIX + key.replace("_", "-"): value for key, value in labels.items()}
    return ns.http.patch(
        f"/api/v1/namespaces/{ns.name}",
        json={"metadata": {"labels": wanted}},
        headers={"content-type": "application/merge-patch+json"},
    )


def privileged(name: str, **more: Any) -> dict[str, Any]:
    made = pod(name, **more)
    made["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    return made


_WORDS = 'privileged (container \\"c\\" must not set securityContext.privileged=true)'


def test_a_namespace_holds_its_pods_to_a_level(ns):
    ns.create("pods", privileged("before"))
    answer = label(ns, enforce="baseline", warn="restricted")
    assert answer.status_code == 200
    warnings = [part.partition('"')[2][:-1] for part in answer.headers.get_list("warning", split_commas=False)]
    assert warnings == [
        f'existing pods in namespace \\"{ns.name}\\" violate the new PodSecurity enforce level \\"baseline:latest\\"',
        "before: privileged",
    ]
    refused = ns.create("pods", privileged("x"), status=403)
    assert refused["message"] == (
        'pods "x" is forbidden: violates PodSecurity "baseline:latest": '
        'privileged (container "c" must not set securityContext.privileged=true)'
    )
    made = ns.http.post(ns.path("pods"), json=pod("fine"))
    assert made.status_code == 201
    assert 'would violate PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation != false' in made.headers["warning"]
    # What makes pods is let in, with a warning; its pods will not be.
    workload = deployment("d")
    workload["spec"]["template"]["spec"] = privileged("x")["spec"]
    made = ns.http.post(ns.path("deployments", group="apps/v1"), json=workload)
    assert made.status_code == 201
    assert _WORDS in made.headers["warning"]
    # A pod that is there is changed at will in what does not matter.
    answer = ns.http.patch(
        ns.path("pods", "before"),
        json={"metadata": {"labels": {"a": "b"}}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200


def test_labels_that_make_no_sense_are_refused(ns):
    answer = label(ns, enforce="strict")
    assert answer.status_code == 422
    cause = answer.json()["details"]["causes"][0]
    assert cause["field"] == f"metadata.labels[{_PREFIX}enforce]"
    assert cause["message"] == 'Invalid value: "strict": must be one of privileged, baseline, restricted'


def test_a_configuration_for_namespaces_without_labels(world):
    """Defaults and exemptions of an AdmissionConfiguration."""
    told = {
        "kind": "PodSecurityConfiguration",
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "defaults": {"enforce": "baseline"},
        "exemptions": {"namespaces": ["kube-system"], "usernames": ["tina"]},
    }
    plugins = [{"name": "PodSecurity", "configuration": told}]
    path = world.folder / "admission.yaml"
    path.write_text(
        json.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins})
    )
    other = world.start_server(f"--admission-control-config-file={path}", "--disable-admission-plugins=ServiceAccount")
    with other.client() as http:
        pods = "/api/v1/namespaces/{}/pods?dryRun=All"
        assert http.post(pods.format("default"), json=privileged("x")).status_code == 403
        assert http.post(pods.format("kube-system"), json=privileged("x")).status_code == 201
    with other.client("") as tina:
        answer = tina.post(pods.format("default"), json=privileged("x"), headers={"authorization": "Bearer admin-token"})
        assert answer.status_code == 201, answer.text
    other.daemon.stop()
