"""Pods on a real node: what they are given, how they start, fail, are probed and end."""

from __future__ import annotations

import asyncio
import shutil
import time
from datetime import UTC, datetime

import pytest

from kubeling.api.conditions import get_condition
from kubeling.api.pods import container_status, is_ready
from kubeling.api.resources import CONFIG_MAPS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, SERVICES
from kubeling.daemon.clock import VirtualClock
from kubeling.kubelet.handlers import http_get
from kubeling.kubelet.tokens import TokenSource

from .conftest import FOREVER, ON_BOTH_RUNTIMES, Pods, restarts, serve, shell, state, waiting

pytestmark = [pytest.mark.live, pytest.mark.root, ON_BOTH_RUNTIMES]


async def test_everything_that_a_container_is_given(pods: Pods) -> None:
    """Environment, every sort of volume, names, users, limits: read back from inside."""
    await pods.config("settings", A="from-map", file="text of the file")
    await pods.secret("hidden", password="s3cret")
    service = {"spec": {"selector": {"x": "y"}, "ports": [{"port": 80}]}}
    await pods.make(SERVICES, "backend", **service)
    script = (
        "env; echo ---; cat /cfg/file; echo; cat /secret/password; echo; cat /down/labels; echo; cat /one/file; echo; "
        "cat /all/name; echo; wc -c < /all/token; id -u; id -g; id -G; hostname; cat /etc/hosts /etc/resolv.conf; "
        "stat -c %a /cfg/..data/file /work; stat -f -c %T /secret; touch /work/x; stat -c %g /work/x; " + FOREVER
    )
    await pods.run(
        "all",
        shell(
            script,
            env=[
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "password"}}},
                {"name": "BOTH", "value": "$(A)/$(PASSWORD)"},
            ],
            envFrom=[{"configMapRef": {"name": "settings"}}],
            resources={"limits": {"memory": "64Mi", "cpu": "500m"}},
            securityContext={"runAsUser": 1234, "runAsGroup": 2345},
            volumeMounts=[
                {"name": "cfg", "mountPath": "/cfg"},
                {"name": "sec", "mountPath": "/secret"},
                {"name": "down", "mountPath": "/down"},
                {"name": "cfg", "mountPath": "/one/file", "subPath": "file"},
                {"name": "all", "mountPath": "/all"},
                {"name": "work", "mountPath": "/work"},
            ],
        ),
        labels={"app": "all"},
        hostname="host-a",
        subdomain="sub",
        hostAliases=[{"ip": "203.0.113.5", "hostnames": ["alias.example"]}],
        securityContext={"fsGroup": 3456},
        volumes=[
            {"name": "cfg", "configMap": {"name": "settings", "defaultMode": 0o440}},
            {"name": "sec", "secret": {"secretName": "hidden"}},
            {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "work", "emptyDir": {}},
            {
                "name": "all",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
                        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                    ]
                },
            },
        ],
    )
    pod = await pods.ready("all")
    log = await pods.logged("all", "tmpfs\n3456\n")
    env, _, rest = log.partition("---\n")
    variables = dict(line.split("=", 1) for line in env.splitlines() if "=" in line)
    assert variables["IP"] == pod["status"]["podIP"]
    assert variables["NODE"] == pod["spec"]["nodeName"]
    assert variables["LIMIT"] == "64"
    assert variables["BOTH"] == "from-map/s3cret"
    assert "BACKEND_SERVICE_HOST" in variables
    assert variables["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    lines = rest.splitlines()
    assert lines[:5] == ["text of the file", "s3cret", 'app="all"', "text of the file", "all"]
    assert int(lines[5]) > 100
    assert lines[6:8] == ["1234", "2345"]
    assert set(lines[8].split()) >= {"2345", "3456"}
    assert lines[9] == "host-a"
    assert f"{pod['status']['podIP']}\thost-a.sub.{pods.namespace}.svc.cluster.local\thost-a" in lines
    assert "203.0.113.5\talias.example" in lines
    assert f"search {pods.namespace}.svc.cluster.local svc.cluster.local cluster.local" in rest
    assert "nameserver 10.96.0.10" in lines
    assert lines[-4:-2] == ["440", "2777"]
    assert pod["status"]["qosClass"] == "Guaranteed"
    assert get_condition(pod, "PodReadyToStartContainers") is not None


async def test_init_containers_in_order_with_a_sidecar_beside_them(pods: Pods) -> None:
    work = [{"name": "w", "mountPath": "/w"}]
    await pods.run(
        "init",
        shell("echo main >> /w/order; cat /w/order; " + FOREVER, volumeMounts=work),
        initContainers=[
            shell("echo one >> /w/order", "one", volumeMounts=work),
            shell("echo side >> /w/order; " + FOREVER, "side", restartPolicy="Always", volumeMounts=work),
            shell("sleep 0.2; echo two >> /w/order", "two", volumeMounts=work),
        ],
        volumes=[{"name": "w", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    )
    pod = await pods.ready("init")
    assert (await pods.logged("init", "main", container="c")).split() == ["one", "side", "two", "main"]
    statuses = {each["name"]: each for each in pod["status"]["initContainerStatuses"]}
    assert statuses["one"]["state"]["terminated"]["reason"] == "Completed"
    assert statuses["side"]["ready"]
    assert "running" in statuses["side"]["state"]


async def test_a_crash_is_restarted_with_back_off_and_leaves_its_last_words(pods: Pods) -> None:
    await pods.run("crash", shell("echo going down; echo last words > /dev/termination-log; exit 3"))
    pod = await pods.until("crash", waiting("CrashLoopBackOff"))
    status = container_status(pod, "c") or {}
    assert pod["status"]["phase"] == "Running"
    assert status["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=c pod=crash_")
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "last words\n")
    assert status["restartCount"] == 1
    assert "Back-off restarting failed container c in pod crash_" in await pods.event("crash", "BackOff")
    assert await pods.log("crash", previous=True) == "going down\n"


async def test_never_restart_ends_the_pod(pods: Pods) -> None:
    await pods.run("good", shell("true"), restartPolicy="Never")
    await pods.run("bad", shell("echo why >&2; exit 7", terminationMessagePolicy="FallbackToLogsOnError"), restartPolicy="Never")
    assert state(await pods.phase("good", "Succeeded"))["terminated"]["reason"] == "Completed"
    ended = state(await pods.phase("bad", "Failed"))["terminated"]
    assert (ended["exitCode"], ended["message"]) == (7, "why\n")
    assert await pods.log("bad") == "why\n"
    ready = get_condition(await pods.get("good"), "Ready") or {}
    assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")
    await pods.delete("good")
    assert await pods.gone("good") < 5


async def test_images_that_cannot_be_had(pods: Pods) -> None:
    containers = [
        {"name": "nowhere", "image": "registry.invalid/none:1"},
        {"name": "never", "image": "kubeling.local/none:1", "imagePullPolicy": "Never"},
        {"name": "malformed", "image": "Not An Image"},
    ]
    await pods.run("images", *containers)
    await pods.until("images", waiting("ImagePullBackOff", "nowhere"))
    pod = await pods.until("images", waiting("ErrImageNeverPull", "never"))
    assert waiting("InvalidImageName", "malformed")(pod)
    assert pod["status"]["phase"] == "Pending"
    assert await pods.event("images", "BackOff") == 'Back-off pulling image "registry.invalid/none:1"'
    assert {"Pulling", "Failed", "ErrImageNeverPull", "InspectFailed"} <= set(await pods.reasons("images"))


async def test_what_is_missing_is_waited_for_and_noticed_at_once(pods: Pods) -> None:
    await pods.run("env", shell(FOREVER, envFrom=[{"configMapRef": {"name": "later"}}]))
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    await pods.run("vol", shell(FOREVER, **mount), volumes=[{"name": "v", "configMap": {"name": "later"}}])
    pod = await pods.until("env", waiting("CreateContainerConfigError"))
    assert state(pod)["waiting"]["message"] == 'configmap "later" not found'
    words = 'MountVolume.SetUp failed for volume "v" : configmap "later" not found'
    assert await pods.event("vol", "FailedMount") == words
    began = time.monotonic()
    await pods.config("later", KEY="value")
    await pods.ready("env")
    await pods.ready("vol")
    assert time.monotonic() - began < 4  # by the watch, not by the retry ten seconds later
    await pods.client.patch(CONFIG_MAPS, "later", {"data": {"KEY": "changed"}}, pods.namespace)
    deadline = time.monotonic() + 5
    while await pods.exec("vol", "cat", "/v/KEY") != "changed":
        assert time.monotonic() < deadline


async def test_probes(pods: Pods) -> None:
    """Startup gates the others, readiness gates traffic, liveness restarts."""
    script = "mkdir /www; cd /www; sleep 0.5; touch ok ready; " + serve(8080) + " & trap 'exit 0' TERM; wait"
    await pods.run(
        "probes",
        shell(
            script,
            ports=[{"name": "web", "containerPort": 8080}],
            startupProbe={"httpGet": {"port": "web", "path": "/ok"}, "periodSeconds": 1, "failureThreshold": 20},
            readinessProbe={"exec": {"command": ["test", "-e", "/www/ready"]}, "periodSeconds": 1, "failureThreshold": 1},
            livenessProbe={"httpGet": {"port": 8080, "path": "/ok"}, "periodSeconds": 1, "failureThreshold": 2},
        ),
        shell(FOREVER, "plain", readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1}),
    )
    await pods.ready("probes")
    await pods.exec("probes", "rm", "/www/ready", container="c")
    pod = await pods.until("probes", lambda pod: not is_ready(pod))
    assert (get_condition(pod, "Ready") or {})["message"] == "containers with unready status: [c]"
    assert restarts(pod) == 0
    await pods.exec("probes", "touch", "/www/ready", container="c")
    await pods.ready("probes")
    await pods.exec("probes", "rm", "/www/ok", container="c")
    await pods.until("probes", lambda pod: restarts(pod) == 1)
    await pods.ready("probes")
    assert await pods.event("probes", "Unhealthy")
    assert await pods.event("probes", "Killing") == "Container c failed liveness probe, will be restarted"


async def test_the_end_of_a_pod(pods: Pods) -> None:
    """preStop, then TERM, sidecars last, all within the grace period; the API lets go only when all is down."""
    note = [{"name": "w", "mountPath": "/w"}]
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /w/order; sleep 0.3"]}}}
    await pods.run(
        "end",
        shell("trap 'echo term >> /w/order; exit 0' TERM; while true; do sleep 0.05; done", volumeMounts=note, lifecycle=hook),
        initContainers=[
            shell(
                "trap 'echo side >> /w/order; cat /w/order > /keep/order; exit 0' TERM; while true; do sleep 0.05; done",
                "side",
                restartPolicy="Always",
                volumeMounts=[*note, {"name": "keep", "mountPath": "/keep"}],
            )
        ],
        volumes=[
            {"name": "w", "emptyDir": {}},
            {"name": "keep", "hostPath": {"path": f"/tmp/{pods.namespace}", "type": "DirectoryOrCreate"}},
        ],
    )
    pod = await pods.ready("end")
    await pods.delete("end")
    assert 0.3 < await pods.gone("end") < 4
    reader = shell("cat /keep/order; rm -r /keep/*", volumeMounts=[{"name": "keep", "mountPath": "/keep"}])
    keep = {"name": "keep", "hostPath": {"path": f"/tmp/{pods.namespace}"}}
    await pods.run("read", reader, volumes=[keep], nodeName=pod["spec"]["nodeName"], restartPolicy="Never")
    await pods.phase("read", "Succeeded")
    assert (await pods.log("read")).split() == ["hook", "term", "side"]


async def test_one_that_will_not_end_is_killed_and_a_shorter_grace_counts(pods: Pods) -> None:
    """Meanwhile it is still told whether it is ready: it may be all that its Service has."""
    probe = {"exec": {"command": ["test", "-e", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = "touch /tmp/ok; trap 'rm -f /tmp/ok' TERM; while true; do sleep 0.1; done"
    await pods.run("stubborn", shell(script, readinessProbe=probe), terminationGracePeriodSeconds=60)
    await pods.ready("stubborn")
    await pods.delete("stubborn")
    await pods.until("stubborn", lambda pod: not is_ready(pod))
    await pods.delete("stubborn", grace=1)
    assert await pods.gone("stubborn") < 6


async def test_hooks_and_deadline(pods: Pods) -> None:
    await pods.run(
        "hook",
        shell(
            "sleep 0.5; cat /tmp/post; " + FOREVER,
            lifecycle={"postStart": {"exec": {"command": ["sh", "-c", "echo posted > /tmp/post"]}}},
        ),
    )
    await pods.run("nohook", shell(FOREVER, lifecycle={"postStart": {"exec": {"command": ["false"]}}}))
    await pods.run("late", shell(FOREVER), activeDeadlineSeconds=1)
    assert await pods.logged("hook", "posted")
    assert await pods.event("nohook", "FailedPostStartHook") == "PostStartHook failed"
    pod = await pods.phase("late", "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"


async def test_a_pod_that_does_not_fit_is_refused(pods: Pods) -> None:
    big = shell("true", resources={"requests": {"cpu": "1000"}})
    await pods.run("big", big, nodeName="worker-1")
    pod = await pods.phase("big", "Failed")
    assert pod["status"]["reason"] == "OutOfcpu"
    assert pod["status"]["message"].startswith("Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000")
    await pods.delete("big")
    await pods.gone("big")


async def test_security(pods: Pods) -> None:
    await pods.run("root", shell("true", securityContext={"runAsNonRoot": True}))
    pod = await pods.until("root", waiting("CreateContainerConfigError"))
    assert "image will run as root" in state(pod)["waiting"]["message"]
    checks = "grep -E 'CapEff|NoNewPrivs' /proc/self/status; touch /x; echo done; " + FOREVER
    context = {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
    await pods.run("tight", shell(checks, securityContext=context))
    log = await pods.logged("tight", "done")
    assert "CapEff:\t0000000000000000" in log
    assert "NoNewPrivs:\t1" in log
    assert "Read-only file system" in log


async def test_host_network_and_shared_processes(pods: Pods) -> None:
    await pods.run("host", shell(FOREVER), hostNetwork=True)
    await pods.run("shared", shell(FOREVER, "a"), shell("sleep 0.3; ps ax; " + FOREVER, "b"), shareProcessNamespace=True)
    pod = await pods.ready("host")
    assert pod["status"]["podIP"] == pod["status"]["hostIP"]
    await pods.ready("shared")
    log = await pods.logged("shared", "ps ax", container="b")
    assert log.count("trap 'exit 0' TERM") >= 2


async def test_logs_of_all_kinds(pods: Pods) -> None:
    await pods.run("talk", shell("for i in 1 2 3 4 5; do echo line $i; done; sleep 0.5; echo end"), restartPolicy="Never")
    await pods.logged("talk", "line 5")
    assert await pods.log("talk", tailLines=2) in ("line 4\nline 5\n", "line 5\nend\n")
    path = f"/api/v1/namespaces/{pods.namespace}/pods/talk/log"
    followed = b"".join([each async for each in pods.client.stream("GET", path, params={"follow": True})])
    assert followed.decode().splitlines() == [*(f"line {each}" for each in range(1, 6)), "end"]
    stamped = await pods.log("talk", timestamps=True, tailLines=1)
    assert stamped.endswith("Z end\n")
    assert stamped.startswith("20")


async def test_exec_passes_codes_and_streams(pods: Pods) -> None:
    await pods.run("exec", shell(FOREVER))
    await pods.ready("exec")
    assert await pods.exec("exec", "sh", "-c", "echo out; echo err >&2") == "out\n"
    done = await asyncio.to_thread(
        pods.cluster.kubectl, "exec", "-n", pods.namespace, "exec", "--", "sh", "-c", "exit 5", check=False
    )
    assert done.returncode == 5


async def test_the_kubelets_api_is_for_the_apiserver_alone(pods: Pods) -> None:
    """Without a certificate nothing but /healthz; the other tests' logs and exec come with the apiserver's."""
    if pods.runtime == "containerd":
        pytest.skip("busybox, of which containerd's image is made, speaks no TLS")
    await pods.run("seen", shell(FOREVER))
    pod = await pods.ready("seen")
    host = pod["status"]["hostIP"]
    await pods.run(
        "curl", shell(f"curl -sk https://{host}:10250/pods; echo; curl -sk https://{host}:10250/healthz"), restartPolicy="Never"
    )
    await pods.phase("curl", "Succeeded")
    assert (await pods.log("curl")).split() == ["Unauthorized", "ok"]


async def test_a_token_is_renewed_when_its_time_has_come(pods: Pods) -> None:
    """The real apiserver, and a clock that is put forward."""
    await pods.run("token", shell(FOREVER))
    pod = await pods.ready("token")
    clock = VirtualClock(datetime.now(UTC))
    source = TokenSource(pods.client, clock, rand=lambda: 0.0)
    first = await source.get(pod, "", 600)
    assert await source.get(pod, "", 600) == first
    assert await source.get(pod, "vault", 600) != first
    await clock.advance(479)
    assert await source.get(pod, "", 600) == first
    await clock.advance(2)
    clock_later = await source.get(pod, "", 600)
    assert clock_later.refresh_at > first.refresh_at


async def test_a_claim_of_a_host_path(pods: Pods) -> None:
    path = f"/tmp/{pods.namespace}-pv"
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": pods.namespace, "name": "claim"}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": path}, "claimRef": reference}
    persistent = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": pods.namespace}, "spec": spec}
    await pods.client.create(PERSISTENT_VOLUMES, persistent)
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": pods.namespace}
    await pods.make(PERSISTENT_VOLUME_CLAIMS, "claim", spec=claim)
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}
    await pods.run(
        "claims",
        shell("echo kept > /v/f; cat /v/f; rm /v/f", **mount),
        volumes=[volume],
        nodeName="worker-1",
        restartPolicy="Never",
    )
    try:
        assert "is not bound" in await pods.event("claims", "FailedMount")
        await pods.client.patch(
            PERSISTENT_VOLUME_CLAIMS, "claim", {"status": {"phase": "Bound"}}, pods.namespace, subresource="status"
        )
        await pods.phase("claims", "Succeeded")
        assert await pods.log("claims") == "kept\n"
    finally:
        await pods.client.delete(PERSISTENT_VOLUMES, pods.namespace)


async def test_a_log_is_rotated_by_size_and_nothing_of_it_is_lost(pods: Pods) -> None:
    line = "x" * 1000
    await pods.run(
        "chatty",
        shell(f"i=0; while [ $i -lt 11500 ]; do echo {line}; i=$((i+1)); done; echo end; {FOREVER}"),
        nodeName="worker-1",
    )
    pod = await pods.ready("chatty")
    logs = pods.cluster.root / "nodes" / "worker-1" / "kubelet" / "log" / "pods"
    folder = logs / f"{pods.namespace}_chatty_{pod['metadata']['uid']}" / "c"
    deadline = time.monotonic() + 30
    while not list(folder.glob("0.log.*")):
        assert time.monotonic() < deadline, sorted(each.name for each in folder.iterdir())
        status = container_status(await pods.get("chatty"), "c") or {}
        assert status["restartCount"] == 0, status
        await asyncio.sleep(0.1)
    lines = 0
    while lines != 11501:
        lines = sum(each.read_bytes().count(b"\n") for each in folder.iterdir())
        assert time.monotonic() < deadline, f"{lines} lines in {sorted(each.name for each in folder.iterdir())}"
        await asyncio.sleep(0.1)


async def test_a_port_is_forwarded(pods: Pods) -> None:
    script = "mkdir /www; cd /www; echo hello > index.html; " + serve(8000)
    probe = {"readinessProbe": {"httpGet": {"port": 8000}, "periodSeconds": 1}}
    await pods.run("web", shell(script, **probe), terminationGracePeriodSeconds=1)
    await pods.ready("web")
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    forward = await asyncio.create_subprocess_exec(
        kubectl, "port-forward", "-n", pods.namespace, "pod/web", ":8000", env=pods.cluster.env, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert forward.stdout is not None
        said = (await asyncio.wait_for(forward.stdout.readline(), 10)).decode()
        port = int(said.split("127.0.0.1:")[1].split()[0])
        assert await http_get(f"http://127.0.0.1:{port}/", {}) == (200, "", "hello\n")
    finally:
        forward.terminate()
        await forward.wait()
