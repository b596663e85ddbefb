"""What happens in a cluster, for each controller. To join: a function that plays it, and one line in SCENARIOS."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeling.api.legacytokens import INVALID_SINCE
from kubeling.api.meta import annotations_of, labels_of
from kubeling.api.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    CRON_JOBS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    HORIZONTAL_POD_AUTOSCALERS,
    JOBS,
    LEASES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_VERSION_MIGRATIONS,
    STORAGE_VERSIONS,
    VALIDATING_ADMISSION_POLICIES,
)
from kubeling.api.storageversions import AGREED, entry, with_entry
from kubeling.controllers.certificates_plan import KUBELET_CLIENT, KUBELET_SERVING
from kubeling.controllers.context import Options
from kubeling.controllers.job_indexes import INDEX
from kubeling.controllers.kubernetes_service import IDENTITY_LABEL
from kubeling.controllers.serviceaccount_token import NAME, TYPE, UID

from .harness import Scenario, Stage

Obj = dict[str, Any]
LABELS = {"app": "x"}


def template(image: str = "x:1", **spec: Any) -> Obj:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def workload(replicas: int, **spec: Any) -> Obj:
    body = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template(), **spec}
    return {"metadata": {"name": "x"}, "spec": body}


async def replicaset(stage: Stage) -> None:
    await stage.create(REPLICA_SETS, workload(3))
    await stage.has(REPLICA_SETS, "x", readyReplicas=3)
    await stage.patch(REPLICA_SETS, "x", {"spec": {"replicas": 1}})
    await stage.has(REPLICA_SETS, "x", replicas=1, readyReplicas=1)


async def replicationcontroller(stage: Stage) -> None:
    await stage.create(REPLICATION_CONTROLLERS, workload(2, selector=LABELS))
    await stage.has(REPLICATION_CONTROLLERS, "x", readyReplicas=2)


async def deployment(stage: Stage) -> None:
    await stage.create(DEPLOYMENTS, workload(2))
    await stage.has(DEPLOYMENTS, "x", availableReplicas=2, updatedReplicas=2, replicas=2)
    await stage.patch(DEPLOYMENTS, "x", {"spec": {"template": template("x:2")}})
    await stage.has(DEPLOYMENTS, "x", availableReplicas=2, updatedReplicas=2, replicas=2)


async def statefulset(stage: Stage) -> None:
    claims = [
        {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    ]
    policy = {"whenScaled": "Delete", "whenDeleted": "Delete"}
    body = workload(2, serviceName="x", volumeClaimTemplates=claims, persistentVolumeClaimRetentionPolicy=policy)
    await stage.create(STATEFUL_SETS, body)
    stage.kinds.add(PERSISTENT_VOLUME_CLAIMS)
    await stage.has(STATEFUL_SETS, "x", availableReplicas=2)
    await stage.patch(STATEFUL_SETS, "x", {"spec": {"template": template("x:2")}})
    await stage.has(STATEFUL_SETS, "x", availableReplicas=2, updatedReplicas=2, currentReplicas=2)
    await stage.patch(STATEFUL_SETS, "x", {"spec": {"replicas": 1}})
    await stage.has(STATEFUL_SETS, "x", replicas=1, availableReplicas=1)


async def node(stage: Stage, name: str, **spec: Any) -> str:
    full = f"{stage.namespace}-{name}"
    await stage.create(NODES, {"metadata": {"name": full}, "spec": spec})
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    await stage.patch(NODES, full, {"status": {"conditions": [ready]}}, subresource="status")
    return full


async def daemonset(stage: Stage) -> None:
    for each in "ab":
        await node(stage, each)
    await stage.create(DAEMON_SETS, workload(0) | {"spec": {"selector": {"matchLabels": LABELS}, "template": template()}})
    await stage.has(DAEMON_SETS, "x", numberAvailable=2, updatedNumberScheduled=2)
    await stage.patch(DAEMON_SETS, "x", {"spec": {"template": template("x:2")}})
    await stage.has(DAEMON_SETS, "x", numberAvailable=2, updatedNumberScheduled=2)


def job_body(**spec: Any) -> Obj:
    return {"metadata": {"name": "x"}, "spec": {"template": template(restartPolicy="Never"), **spec}}


async def job(stage: Stage) -> None:
    await stage.create(JOBS, job_body(completions=4, parallelism=2))
    await stage.is_true(JOBS, "x", "Complete")


async def job_indexed(stage: Stage) -> None:
    await stage.create(JOBS, job_body(completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=0))
    await stage.is_true(JOBS, "x", "Failed")
    assert (await stage.get(JOBS, "x"))["status"]["failedIndexes"] == "1"


async def job_expires(stage: Stage) -> None:
    await stage.create(JOBS, job_body(ttlSecondsAfterFinished=0))
    await stage.gone(JOBS, "x")


async def cronjob(stage: Stage) -> None:
    # Once a year, and this year's has been missed.
    spec = {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": job_body()["spec"]}}
    await stage.create(CRON_JOBS, {"metadata": {"name": "x"}, "spec": spec})
    await stage.patch(CRON_JOBS, "x", {"status": {"lastScheduleTime": "2025-06-01T00:00:00Z"}}, subresource="status")
    await stage.patch(CRON_JOBS, "x", {"spec": {"suspend": False}})

    async def ended() -> bool:
        return bool((await stage.get(CRON_JOBS, "x"))["status"].get("lastSuccessfulTime"))

    await stage.until(ended, "its Job has ended")


async def service(stage: Stage) -> None:
    for each in "ab":
        await stage.create(PODS, {"metadata": {"name": each, "labels": LABELS}, "spec": template()["spec"]})
    await stage.create(SERVICES, {"metadata": {"name": "x"}, "spec": {"selector": LABELS, "ports": [{"port": 80}]}})
    stage.kinds |= {ENDPOINTS, ENDPOINT_SLICES}

    async def served(count: int) -> bool:
        slices = await stage.all(ENDPOINT_SLICES)
        return sum(len(each.get("endpoints") or ()) for each in slices) == count

    await stage.until(lambda: served(2), "two endpoints")
    await stage.delete(PODS, "a")
    await stage.until(lambda: served(1), "one endpoint")


async def mirrored(stage: Stage) -> None:
    await stage.create(SERVICES, {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}})
    subsets = [{"addresses": [{"ip": "10.9.0.1"}, {"ip": "10.9.0.2"}], "ports": [{"port": 8080}]}]
    await stage.create(ENDPOINTS, {"metadata": {"name": "x"}, "subsets": subsets})
    stage.kinds.add(ENDPOINT_SLICES)

    async def there() -> bool:
        return bool(await stage.all(ENDPOINT_SLICES))

    await stage.until(there, "a slice")
    await stage.delete(ENDPOINTS, "x")

    async def none() -> bool:
        return not await stage.all(ENDPOINT_SLICES)

    await stage.until(none, "no slice")


async def account(stage: Stage) -> None:
    former = (await stage.get(SERVICE_ACCOUNTS, "default"))["metadata"]["uid"]
    await stage.delete(SERVICE_ACCOUNTS, "default")

    async def again() -> bool:
        return bool((await stage.get(SERVICE_ACCOUNTS, "default"))["metadata"]["uid"] != former)

    await stage.until(again, "another account of that name")


async def root_ca(stage: Stage) -> None:
    stage.kinds.add(CONFIG_MAPS)
    await stage.until(lambda: stage.get(CONFIG_MAPS, "kube-root-ca.crt"), "the bundle")
    await stage.patch(CONFIG_MAPS, "kube-root-ca.crt", {"data": {"ca.crt": "another"}})

    async def mended() -> bool:
        return bool((await stage.get(CONFIG_MAPS, "kube-root-ca.crt"))["data"]["ca.crt"] == "bundle")

    await stage.until(mended, "the right bundle")


async def quota(stage: Stage) -> None:
    await stage.create(RESOURCE_QUOTAS, {"metadata": {"name": "x"}, "spec": {"hard": {"pods": "5", "configmaps": "9"}}})
    for each in "ab":
        await stage.create(PODS, {"metadata": {"name": each}, "spec": template()["spec"]})
    await stage.delete(PODS, "a")

    async def used() -> bool:
        return bool((await stage.get(RESOURCE_QUOTAS, "x"))["status"]["used"]["pods"] == "1")

    await stage.until(used, "one pod is counted")


async def disruption(stage: Stage) -> None:
    await stage.create(REPLICA_SETS, workload(2))
    await stage.has(REPLICA_SETS, "x", readyReplicas=2)
    body = {"metadata": {"name": "x"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}}}
    await stage.create(POD_DISRUPTION_BUDGETS, body)
    await stage.has(POD_DISRUPTION_BUDGETS, "x", currentHealthy=2, disruptionsAllowed=1)


async def silent_node(stage: Stage) -> None:
    name = await node(stage, "a")
    pod = {"metadata": {"name": "p"}, "spec": template()["spec"] | {"nodeName": name}}
    await stage.create(PODS, pod)

    async def tainted() -> bool:
        taints = (await stage.get(NODES, name))["spec"].get("taints") or ()
        # No node is ready, so nothing is evicted.
        return [(each["key"], each["effect"]) for each in taints] == [("node.kubernetes.io/unreachable", "NoSchedule")]

    await stage.until(tainted, "the node is unreachable")


async def taint(stage: Stage) -> None:
    name = await node(stage, "a")
    for each, tolerations in (("stays", [{"operator": "Exists"}]), ("goes", [])):
        spec = template()["spec"] | {"nodeName": name, "tolerations": tolerations}
        await stage.create(PODS, {"metadata": {"name": each}, "spec": spec})
    await stage.patch(NODES, name, {"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}})
    await stage.gone(PODS, "goes")


async def ttl(stage: Stage) -> None:
    name = await node(stage, "a")

    async def annotated() -> bool:
        return bool(annotations_of(await stage.get(NODES, name)))

    await stage.until(annotated, "its TTL")


async def owned(stage: Stage) -> None:
    owner = await stage.create(CONFIG_MAPS, {"metadata": {"name": "owner"}})
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": True,
    }
    for each in "ab":
        await stage.create(CONFIG_MAPS, {"metadata": {"name": each, "ownerReferences": [reference]}})
    await stage.delete(CONFIG_MAPS, "owner", propagation_policy="Foreground")
    await stage.gone(CONFIG_MAPS, "owner")
    await stage.gone(CONFIG_MAPS, "a")


async def orphaned(stage: Stage) -> None:
    owner = await stage.create(CONFIG_MAPS, {"metadata": {"name": "owner"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    for each in "ab":
        await stage.create(CONFIG_MAPS, {"metadata": {"name": each, "ownerReferences": [reference]}})
    await stage.delete(CONFIG_MAPS, "owner", propagation_policy="Background")
    await stage.gone(CONFIG_MAPS, "a")
    await stage.gone(CONFIG_MAPS, "b")


async def ended_namespace(stage: Stage) -> None:
    name = f"{stage.namespace}-child"
    await stage.create(NAMESPACES, {"metadata": {"name": name}})
    await stage.client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}, name)
    await stage.delete(NAMESPACES, name)
    await stage.gone(NAMESPACES, name)


async def aggregated(stage: Stage) -> None:
    labels = {"into": stage.namespace}
    rule = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": labels}]}}
    await stage.create(CLUSTER_ROLES, {"metadata": {"name": f"{stage.namespace}-whole"}, **rule})
    for each in ("pods", "services"):
        rules = [{"apiGroups": [""], "resources": [each], "verbs": ["get"]}]
        await stage.create(CLUSTER_ROLES, {"metadata": {"name": f"{stage.namespace}-{each}", "labels": labels}, "rules": rules})

    async def both() -> bool:
        return len((await stage.get(CLUSTER_ROLES, f"{stage.namespace}-whole")).get("rules") or ()) == 2

    await stage.until(both, "the rules of both")


async def protected_claim(stage: Stage) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await stage.create(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "x"}, "spec": spec})
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "x"}}
    await stage.create(PODS, {"metadata": {"name": "p"}, "spec": template(volumes=[volume])["spec"]})
    await stage.delete(PERSISTENT_VOLUME_CLAIMS, "x")
    await stage.get(PERSISTENT_VOLUME_CLAIMS, "x")
    await stage.delete(PODS, "p")
    await stage.gone(PERSISTENT_VOLUME_CLAIMS, "x")


async def protected_volume(stage: Stage) -> None:
    name = f"{stage.namespace}-v"
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    await stage.create(PERSISTENT_VOLUMES, {"metadata": {"name": name}, "spec": spec})
    await stage.delete(PERSISTENT_VOLUMES, name)
    await stage.gone(PERSISTENT_VOLUMES, name)


async def bound_volumes(stage: Stage) -> None:
    names = {each: f"{stage.namespace}-{each}" for each in ("small", "large")}
    asked = {"small": "1Gi", "large": "2Gi"}
    for each, name in names.items():
        spec = {"capacity": {"storage": asked[each]}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
        await stage.create(PERSISTENT_VOLUMES, {"metadata": {"name": name}, "spec": spec})
        await stage.has(PERSISTENT_VOLUMES, name, phase="Available")
    for each, size in asked.items():
        wanted = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": size}}}
        await stage.create(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": each}, "spec": wanted})
    for each, name in names.items():
        await stage.has(PERSISTENT_VOLUME_CLAIMS, each, phase="Bound")
        await stage.has(PERSISTENT_VOLUMES, name, phase="Bound")
    await stage.delete(PERSISTENT_VOLUME_CLAIMS, "small")
    await stage.has(PERSISTENT_VOLUMES, names["small"], phase="Released")


async def ephemeral_claim(stage: Stage) -> None:
    claim = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    volumes = [{"name": each, "ephemeral": {"volumeClaimTemplate": claim}} for each in "ab"]
    await stage.create(PODS, {"metadata": {"name": "p"}, "spec": template(volumes=volumes)["spec"]})
    stage.kinds.add(PERSISTENT_VOLUME_CLAIMS)

    async def both() -> bool:
        return len(await stage.all(PERSISTENT_VOLUME_CLAIMS)) == 2

    await stage.until(both, "a claim for each of its volumes")


async def autoscaler(stage: Stage) -> None:
    await stage.create(REPLICA_SETS, workload(3))
    target = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x"}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2}
    await stage.create(HORIZONTAL_POD_AUTOSCALERS, {"metadata": {"name": "x"}, "spec": spec})

    async def shrunk() -> bool:
        return bool((await stage.get(REPLICA_SETS, "x"))["spec"]["replicas"] == 2)

    await stage.until(shrunk, "its maximum")
    await stage.has(HORIZONTAL_POD_AUTOSCALERS, "x", currentReplicas=2)


async def policy(stage: Stage) -> None:
    name = f"{stage.namespace}-p"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nodes"]}]
    spec = {"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "true"}]}
    await stage.create(VALIDATING_ADMISSION_POLICIES, {"metadata": {"name": name}, "spec": spec})

    async def seen() -> bool:
        return "typeChecking" in (await stage.get(VALIDATING_ADMISSION_POLICIES, name))["status"]

    await stage.until(seen, "it has been seen")


async def certificates(stage: Stage) -> None:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "system:node:n"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes")]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(_KEY, hashes.SHA256())
    for each, signer in (("good", KUBELET_CLIENT), ("odd", KUBELET_SERVING)):
        spec = {
            "request": base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode(),
            "signerName": signer,
            "usages": ["digital signature", "client auth"],
        }
        name = f"{stage.namespace}-{each}"
        made = await stage.create(CERTIFICATE_SIGNING_REQUESTS, {"metadata": {"name": name}, "spec": spec})
        if signer == KUBELET_SERVING:
            said = [{"type": "Approved", "status": "True", "reason": "Test", "message": "by hand"}]
            approved = {**made, "status": {"conditions": said}}
            await stage.client.update(CERTIFICATE_SIGNING_REQUESTS, approved, subresource="approval")
    await stage.is_true(CERTIFICATE_SIGNING_REQUESTS, f"{stage.namespace}-odd", "Failed")

    async def signed() -> bool:
        return bool((await stage.get(CERTIFICATE_SIGNING_REQUESTS, f"{stage.namespace}-good"))["status"].get("certificate"))

    await stage.until(signed, "its certificate")


async def blocks(stage: Stage) -> None:
    names = [await node(stage, each) for each in "abc"]

    async def apart() -> bool:
        found = {(await stage.get(NODES, each))["spec"].get("podCIDR") for each in names}
        return None not in found and len(found) == len(names)

    await stage.until(apart, "each node has a block of its own")


async def token(stage: Stage) -> None:
    annotations = {"kubernetes.io/service-account.name": "default"}
    body = {"metadata": {"name": "x", "annotations": annotations}, "type": "kubernetes.io/service-account-token"}
    await stage.create(SECRETS, body)

    async def filled() -> bool:
        return "token" in ((await stage.get(SECRETS, "x")).get("data") or {})

    await stage.until(filled, "its token")


async def ended_pods(stage: Stage) -> None:
    for each in "abc":
        await stage.create(PODS, {"metadata": {"name": each}, "spec": template(restartPolicy="Never")["spec"]})

    async def one_left() -> bool:
        return len(await stage.all(PODS)) == 1

    await stage.until(one_left, "the oldest have gone")


def succeeds(pod: Obj) -> str:
    return "Succeeded"


async def unused_tokens(stage: Stage) -> None:
    account = await stage.create(SERVICE_ACCOUNTS, {"metadata": {"name": "x"}})
    whose = {NAME: "x", UID: account["metadata"]["uid"]}
    for name, labels in (("new", {}), ("marked", {INVALID_SINCE: "2020-01-01"}), ("manual", {})):
        body = {"metadata": {"name": name, "annotations": whose, "labels": labels}, "type": TYPE}
        await stage.create(SECRETS, body)
    # Tokens count as old from the second after they were made.
    await asyncio.sleep(1.1)
    await stage.patch(SERVICE_ACCOUNTS, "x", {"secrets": [{"name": "new"}, {"name": "marked"}]})
    await stage.gone(SECRETS, "marked")

    async def marked() -> bool:
        return bool(labels_of(await stage.get(SECRETS, "new")).get(INVALID_SINCE))

    await stage.until(marked, "an unused token is marked")


async def storage_versions(stage: Stage) -> None:
    leases = await stage.client.list(LEASES, "kube-system", label_selector=f"{IDENTITY_LABEL}=kube-apiserver")
    here = leases["items"][0]["metadata"]["name"]
    for kind, servers in (("both", {here: "v1", "apiserver-gone": "v2"}), ("none", {"apiserver-gone": "v2"})):
        name = f"{stage.namespace}.{kind}"
        await stage.create(STORAGE_VERSIONS, {"metadata": {"name": name}, "spec": {}})
        status: Obj = {}
        for each, version in servers.items():
            status = with_entry(status, entry(each, version, [], [version]), datetime.now(UTC))
        await stage.patch(STORAGE_VERSIONS, name, {"status": status}, subresource="status")
    await stage.gone(STORAGE_VERSIONS, f"{stage.namespace}.none")
    await stage.is_true(STORAGE_VERSIONS, f"{stage.namespace}.both", AGREED)


async def migration(stage: Stage) -> None:
    for each in "ab":
        await stage.create(CONFIG_MAPS, {"metadata": {"name": each}})
    name = f"{stage.namespace}-m"
    spec = {"resource": {"version": "v1", "resource": "configmaps"}}
    await stage.create(STORAGE_VERSION_MIGRATIONS, {"metadata": {"name": name}, "spec": spec})
    await stage.is_true(STORAGE_VERSION_MIGRATIONS, name, "Succeeded")


def index_1_fails(pod: Obj) -> str:
    return "Failed" if annotations_of(pod).get(INDEX) == "1" else "Succeeded"


_KEY = ec.generate_private_key(ec.SECP256R1())
_KEY_PEM = _KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
).decode()


def _authority() -> str:
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(_KEY.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


_SIGNING = Options(signing_certificate=_authority(), signing_key=_KEY_PEM, service_account_private_key=_KEY_PEM)
_GRACE = Options(node_monitor_grace_period=1.0, node_startup_grace_period=1.0, node_eviction_rate=100, root_ca="bundle")
#: A Job of two leaders may have more pods than it needs: the second makes some before it has seen the first's. What was counted is right even so (test_crash_live.py).
SCENARIOS: dict[str, Scenario] = {
    "replicaset": Scenario("replicaset", replicaset),
    "replicationcontroller": Scenario("replicationcontroller", replicationcontroller),
    "deployment": Scenario("deployment,replicaset", deployment),
    "statefulset": Scenario("statefulset", statefulset),
    "daemonset": Scenario("daemonset", daemonset),
    "job": Scenario("job", job, fate=succeeds, two=False),
    "job-indexed": Scenario("job", job_indexed, fate=index_1_fails, two=False),
    "job-expires": Scenario("job,ttl-after-finished,garbagecollector", job_expires, fate=succeeds),
    "cronjob": Scenario("cronjob,job", cronjob, fate=succeeds, two=False),
    "service": Scenario("endpoints,endpointslice", service),
    "mirrored": Scenario("endpointslicemirroring", mirrored),
    "account": Scenario("serviceaccount", account),
    "root-ca": Scenario("root-ca-certificate-publisher", root_ca, options=_GRACE),
    "quota": Scenario("resourcequota", quota),
    "disruption": Scenario("disruption,replicaset", disruption),
    "silent-node": Scenario("nodelifecycle", silent_node, options=_GRACE),
    "taint": Scenario("tainteviction", taint),
    "ttl": Scenario("ttl", ttl),
    "owned": Scenario("garbagecollector", owned),
    "orphaned": Scenario("garbagecollector", orphaned),
    "ended-namespace": Scenario("namespace", ended_namespace),
    "aggregated": Scenario("clusterrole-aggregation", aggregated),
    "protected-claim": Scenario("pvc-protection", protected_claim),
    "protected-volume": Scenario("pv-protection", protected_volume),
    "bound-volumes": Scenario("persistentvolume-binder,pvc-protection", bound_volumes),
    "ephemeral-claim": Scenario("ephemeral-volume", ephemeral_claim),
    # Without metrics its status keeps what was last wished, and that is lost with a death between the scaling and the status.
    "autoscaler": Scenario(
        "horizontalpodautoscaler,replicaset", autoscaler, scrub=(', "desiredReplicas": 2', ', "lastScaleTime": "time"')
    ),
    "policy": Scenario("validatingadmissionpolicy-status", policy),
    "certificates": Scenario(
        "csrsigning,csrapproving,csrcleaning",
        certificates,
        options=_SIGNING,
        scrub=('"certificate": "[^"]*"', '"request": "[^"]*"'),
    ),
    "blocks": Scenario("nodeipam", blocks, alone=True),
    "token": Scenario(
        "serviceaccount-token", token, options=_SIGNING, scrub=('"token": "[^"]*"', '(?<="data": {)"namespace": "[^"]*"')
    ),
    "unused-tokens": Scenario("legacy-service-account-token-cleaner", unused_tokens, options=Options(legacy_token_period=0)),
    "storage-versions": Scenario("storage-version-gc", storage_versions),
    "migration": Scenario("storage-version-migrator", migration),
    "ended-pods": Scenario("podgc", ended_pods, fate=succeeds, options=Options(terminated_pod_gc_threshold=1)),
}
