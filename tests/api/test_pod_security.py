"""The Pod Security Standards: each check, and its words."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.admission.podsecurity import policy
from kubeling.api.admission.podsecurity.policy import Level

Obj = dict[str, Any]


def found(level: str, spec: Obj, minor: int = policy.LATEST, **metadata: Any) -> str:
    return policy.text_of(policy.violations(Level(level, minor), metadata, spec))


def one(**container: Any) -> Obj:
    return {"containers": [{"name": "c", **container}]}


def secured(**security: Any) -> Obj:
    return one(securityContext=security)


GOOD: Obj = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}],
    "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "x"}}],
}


def test_a_plain_pod_is_baseline_and_not_restricted():
    assert found("baseline", one()) == ""
    assert found("privileged", secured(privileged=True)) == ""
    assert found("restricted", GOOD) == ""
    assert found("restricted", one()) == (
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
    )
    # Each version has its own idea of it.
    assert found("restricted", one(), 7) == (
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)'
    )
    assert "runAsNonRoot" in found("restricted", {**one(), "os": {"name": "windows"}})
    assert "seccompProfile" not in found("restricted", {**one(), "os": {"name": "windows"}})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"hostNetwork": True, "hostIPC": True}, "host namespaces (hostNetwork=true, hostIPC=true)"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, 'hostPath volumes (volume "v")'),
        (one(ports=[{"hostPort": 80}, {"hostPort": 443}]), 'hostPort (container "c" uses hostPorts 443, 80)'),
        (secured(privileged=True), 'privileged (container "c" must not set securityContext.privileged=true)'),
        (
            secured(capabilities={"add": ["NET_ADMIN", "CHOWN"]}),
            'non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add)',
        ),
        (secured(procMount="Unmasked"), 'procMount (container "c" must not set securityContext.procMount to "Unmasked")'),
        (
            {"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}}},
            'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "x"; user may not be set)',
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "Unconfined"}}, **secured(seccompProfile={"type": "Unconfined"})},
            'seccompProfile (pod and container "c" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}, "forbidden sysctls (kernel.msgmax)"),
        (
            {"securityContext": {"windowsOptions": {"hostProcess": True}}},
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            secured(appArmorProfile={"type": "Unconfined"}),
            'forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")',
        ),
    ],
)
def test_what_breaks_the_baseline(spec, words):
    assert found("baseline", spec) == words


def test_what_else_breaks_restricted():
    bad = {**GOOD, "volumes": [{"name": "a", "hostPath": {}}, {"name": "b", "nfs": {}}]}
    assert found("restricted", bad) == (
        'restricted volume types (volumes "a", "b" use restricted volume types "hostPath", "nfs")'
    )
    root = {**GOOD, "securityContext": {**GOOD["securityContext"], "runAsNonRoot": False, "runAsUser": 0}}
    assert found("restricted", root) == (
        "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0)"
    )


def test_the_labels_of_a_namespace():
    wanted, wrong = policy.parse(
        {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.24"}
    )
    assert (str(wanted.enforce), str(wanted.warn), wrong) == ("baseline:v1.24", "privileged:latest", [])
    wanted, wrong = policy.parse(
        {"pod-security.kubernetes.io/enforce": "strict", "pod-security.kubernetes.io/warn-version": "1.24"}
    )
    assert [str(each) for each in wrong] == [
        (
            'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": '
            "must be one of privileged, baseline, restricted"
        ),
        'metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "1.24": must be "latest" or "v1.x"',
    ]
    assert wanted.enforce.name == "restricted"
