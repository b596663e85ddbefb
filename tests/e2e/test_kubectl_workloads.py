"""kubectl's commands for workloads: run, expose, scale, autoscale, set, rollout, wait, and what is done in containers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kubeling.tests.e2e.kubectl import IMAGE, Kubectl, every_kubectl, workload

pytestmark = pytest.mark.live


@every_kubectl()
def test_scale_set_rollout(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps(workload("Deployment", "d", replicas=1)))
    assert 'deployment "d" successfully rolled out' in kubectl("rollout", "status", "deployment/d", "--timeout=90s")
    assert kubectl("scale", "deployment/d", "--replicas=2", "--timeout=60s") == "deployment.apps/d scaled\n"
    assert "Expected replicas to be 5, was 2" in kubectl.refused("scale", "deployment/d", "--replicas=1", "--current-replicas=5")
    kubectl("scale", "deployment/d", "--replicas=1", "--current-replicas=2")
    kubectl("autoscale", "deployment/d", "--min=1", "--max=3", "--cpu-percent=50")
    assert kubectl.json("hpa", "d")["spec"]["maxReplicas"] == 3
    kubectl("delete", "hpa", "d")

    def container() -> Any:
        return kubectl.json("deployment", "d")["spec"]["template"]["spec"]["containers"][0]

    kubectl("rollout", "pause", "deployment/d")
    assert kubectl("set", "image", "deployment/d", f"main={IMAGE}:latest") == "deployment.apps/d image updated\n"
    assert kubectl("set", "resources", "deployment/d", "--requests=cpu=10m", "--limits=memory=64Mi").endswith("updated\n")
    kubectl("set", "env", "deployment/d", "A=1", "B=2", "--list")
    kubectl("set", "env", "deployment/d", "A=1", "B=2")
    kubectl("set", "env", "deployment/d", "A-")
    kubectl("create", "serviceaccount", "sa")
    kubectl("set", "serviceaccount", "deployment/d", "sa")
    kubectl("create", "rolebinding", "rb", "--clusterrole=view", "--user=u")
    assert (
        kubectl("set", "subject", "rolebinding", "rb", "--user=v")
        == "rolebinding.rbac.authorization.k8s.io/rb subjects updated\n"
    )
    assert container()["env"] == [{"name": "B", "value": "2"}]
    assert container()["resources"]["limits"] == {"memory": "64Mi"}
    assert container()["resources"]["requests"]["cpu"] == "10m"
    kubectl("annotate", "deployment/d", "kubernetes.io/change-cause=second")
    kubectl("rollout", "resume", "deployment/d")
    kubectl("rollout", "status", "deployment/d", "--timeout=90s")
    history = kubectl("rollout", "history", "deployment/d")
    assert re.search(r"^2 +second$", history, re.MULTILINE), history
    assert "B:\t2" in kubectl("rollout", "history", "deployment/d", "--revision=2")
    assert kubectl("rollout", "undo", "deployment/d", "--to-revision=1") == "deployment.apps/d rolled back\n"
    kubectl("rollout", "status", "deployment/d", "--timeout=90s")
    assert "env" not in container()
    assert kubectl("rollout", "restart", "deployment/d") == "deployment.apps/d restarted\n"
    assert kubectl("rollout", "status", "deployment/d", "--watch=false")
    kubectl("rollout", "status", "deployment/d", "--timeout=90s")

    # Daemon sets and stateful sets keep their history in ControllerRevisions.
    for kind in ("DaemonSet", "StatefulSet"):
        name = f"{kind.lower()}/x"
        kubectl("apply", "-f", "-", stdin=json.dumps(workload(kind, "x")))
        kubectl("rollout", "status", name, "--timeout=90s")
        kubectl("set", "env", name, "A=1")
        kubectl("rollout", "status", name, "--timeout=90s")
        assert len(re.findall(r"^\d ", kubectl("rollout", "history", name), re.MULTILINE)) == 2
        kubectl("rollout", "undo", name)
        kubectl("rollout", "status", name, "--timeout=90s")
        kubectl("rollout", "restart", name)
        assert "env" not in kubectl.json(name)["spec"]["template"]["spec"]["containers"][0]
        kubectl("delete", name)


@every_kubectl()
def test_run_expose_wait(kubectl: Kubectl) -> None:
    # The end of the input comes with kubectl's connection: what is written after it cannot be written before anybody looks.
    once = ("--restart=Never", "--rm", "-i", "--", "sh", "-c")
    assert kubectl("run", "hello", f"--image={IMAGE}", *once, "cat; echo hello").startswith("hello\n")
    done = kubectl.run("run", "fails", f"--image={IMAGE}", *once, "cat; exit 3", stdin="from here")
    assert (done.returncode, "from here" in done.stdout) == (3, True), done
    kubectl("run", "p", f"--image={IMAGE}", "--labels=app=p", "--env=A=b", "--port=80", "--expose", "--", "sleep", "1000")
    assert kubectl.json("service", "p")["spec"]["selector"] == {"app": "p"}
    assert "pod/p condition met" in kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=p", "--timeout=90s")
    assert "condition met" in kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/p", "--timeout=30s")
    if kubectl.minor >= 31:
        assert "condition met" in kubectl("wait", "--for=jsonpath={.status.podIP}", "pod/p", "--timeout=30s")
        assert "condition met" in kubectl("wait", "--for=create", "pod/p", "--timeout=10s")
    assert "timed out waiting for the condition" in kubectl.refused("wait", "--for=condition=Nothing", "pod/p", "--timeout=1s")
    assert kubectl("expose", "pod", "p", "--name=q", "--port=81", "--target-port=80") == "service/q exposed\n"
    kubectl("set", "selector", "service", "q", "x=y")
    assert kubectl.json("service", "q")["spec"]["selector"] == {"x": "y"}
    with kubectl.running("wait", "--for=delete", "pod/p", "--timeout=60s", "-v=6") as waiting:
        # What is gone before the watch begins is not waited for, and nothing is said of it.
        assert waiting.stdout is not None
        said = ""
        while "watch=true" not in said:
            said = waiting.stdout.readline()
            assert said, "kubectl has not watched"
        kubectl("delete", "pod", "p", "--wait=false", "--grace-period=1")
        assert "condition met" in waiting.stdout.read()

    kubectl("create", "job", "j", f"--image={IMAGE}", "--", "sh", "-c", "for i in 1 2 3; do echo line $i; done")
    kubectl("wait", "--for=condition=Complete", "job/j", "--timeout=90s")
    assert kubectl("logs", "job/j") == "line 1\nline 2\nline 3\n"


@every_kubectl()
def test_in_containers(kubectl: Kubectl, tmp_path: Path) -> None:
    shell = "echo begin; while read line; do echo got $line; done; python3 -m http.server 8080 >/dev/null 2>&1"
    serve = workload("Pod", "p")
    serve = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "p"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "talks", "image": IMAGE, "stdin": True, "command": ["sh", "-c", shell]},
                {"name": "serves", "image": IMAGE, "command": ["python3", "-u", "-c", SERVE]},
            ],
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(serve))
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=90s")

    # exec
    assert kubectl("exec", "p", "-c", "serves", "--", "echo", "hello") == "hello\n"
    done = kubectl.run("exec", "p", "-c", "serves", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr == "err\ncommand terminated with exit code 7\n"
    assert kubectl("exec", "-i", "p", "-c", "serves", "--", "sh", "-c", "wc -c", stdin="x" * 1_000_000).strip() == "1000000"
    assert "Defaulted container" in kubectl.run("exec", "p", "--", "true").stderr
    assert "container nothing is not valid for pod p" in kubectl.refused("exec", "p", "-c", "nothing", "--", "true")
    missing = kubectl.refused("exec", "p", "-c", "serves", "--", "no-such-program")
    assert "no-such-program" in missing

    # cp, up and down
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "file").write_text("text" * 50_000)
    kubectl("cp", "-c", "serves", str(tmp_path / "up"), "p:/tmp/copied")
    kubectl("cp", "-c", "serves", f"{kubectl.bench.namespace}/p:/tmp/copied/file", str(tmp_path / "down"))
    assert (tmp_path / "down").read_text() == "text" * 50_000

    # logs
    assert kubectl("logs", "p", "-c", "talks") == "begin\n"
    assert re.match(r"\d{4}-\d\d-\d\dT\S+ begin\n", kubectl("logs", "p", "-c", "talks", "--timestamps"))
    assert kubectl("logs", "-l", "app=p", "--all-containers", "--prefix", "--tail=1").count("[pod/p/") >= 1
    assert kubectl("logs", "p", "-c", "talks", "--limit-bytes=3") == "beg"
    assert "previous terminated container" in kubectl.refused("logs", "p", "-c", "talks", "--previous")

    # attach
    with kubectl.running("attach", "-i", "p", "-c", "talks", "--quiet") as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        with kubectl.running("logs", "-f", "p", "-c", "talks") as follows:
            assert follows.stdout is not None
            assert follows.stdout.readline() == "begin\n"
            attached.stdin.write("a line\n")
            attached.stdin.flush()
            assert attached.stdout.readline() == "got a line\n"
            assert follows.stdout.readline() == "got a line\n"

    # port-forward
    kubectl("expose", "pod", "p", "--port=80", "--target-port=8080")
    for what, port in (("pod/p", ":8080"), ("service/p", ":80")):
        with kubectl.running("port-forward", what, port) as forwarding:
            assert forwarding.stdout is not None
            match = re.search(r"127\.0\.0\.1:(\d+) -> 8080", forwarding.stdout.readline())
            assert match is not None
            for _ in range(3):
                with urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/", timeout=30) as answer:
                    assert answer.read() == b"served"

    # debug: a container in the pod, a copy of the pod
    kubectl("debug", "p", f"--image={IMAGE}", "-c", "dbg", "--", "echo", "debugging")
    kubectl.bench.until("the debugger has run", lambda: "debugging" in kubectl.run("logs", "p", "-c", "dbg").stdout)
    kubectl(
        "debug",
        "p",
        "--copy-to=copy",
        "--container=serves",
        f"--set-image=*={IMAGE}:latest",
        "--same-node",
        "--",
        "sleep",
        "1000",
    )
    kubectl("wait", "--for=condition=Ready", "pod/copy", "--timeout=90s")
    if kubectl.minor >= 30:
        done = kubectl.run(
            "debug",
            "-i",
            "p",
            f"--image={IMAGE}",
            "--profile=general",
            "--target=serves",
            "--",
            "sh",
            "-c",
            "echo seen; ps ax | grep -c [S]ERVED",
            timeout=90,
        )
        assert "seen" in done.stdout, done
    # debug: a pod on the node, with its files
    node = kubectl.json("pod", "p")["spec"]["nodeName"]
    on_node = kubectl.run("debug", f"node/{node}", f"--image={IMAGE}", "--", "ls", "/host")
    made = re.search(r"debugging pod (\S+) with container debugger on node", on_node.stdout + on_node.stderr)
    assert made is not None, on_node
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{made[1]}", "--timeout=90s")
    assert "etc" in kubectl("logs", made[1]).split()
    if shutil.which("script"):
        typed = subprocess.run(
            ["script", "-qec", f"{kubectl.binary} -n {kubectl.bench.namespace} exec -it p -c serves -- tty", "/dev/null"],
            capture_output=True,
            text=True,
            timeout=60,
            env=kubectl.env({}),
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert "/dev/" in typed.stdout, typed


SERVE = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"served")  # SERVED
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
