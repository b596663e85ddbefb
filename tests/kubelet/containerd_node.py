"""A node on containerd: run in fresh network, mount and pid namespaces, it starts a store, an apiserver, containerd and our kubelet, and puts pods through
their paces. Prints one line for each step; exit status 0 when all of them held.

`python containerd_node.py FOLDER CGROUP`
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.pods import container_status, is_ready, phase_of
from kubeling.api.resources import CONFIG_MAPS, NODES, PODS, SERVICE_ACCOUNTS
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.rest import Client, ConnectionFailed

IMAGE = "test.local/busybox:1"
NODE = "containerd-node"

#: The loopback plugin, and one that gives each pod a veth with an address of its own. Enough for one node.
PLUGIN = """#!/bin/sh
conf=$(cat)
kind=$(basename "$0")
ns=$(basename "$CNI_NETNS")
if [ "$CNI_COMMAND" = VERSION ]; then echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}'; exit 0; fi
if [ "$kind" = loopback ]; then
  [ "$CNI_COMMAND" = ADD ] && nsenter --net="$CNI_NETNS" ip link set lo up
  echo '{"cniVersion":"0.3.1","interfaces":[{"name":"lo","sandbox":"'$CNI_NETNS'"}],"ips":[]}'; exit 0
fi
host=v$(echo "$CNI_CONTAINERID" | cut -c1-12)
if [ "$CNI_COMMAND" = ADD ]; then
  n=$(cat @STATE@/next); echo $((n+1)) > @STATE@/next; ip=10.99.0.$n
  ip link add "$host" type veth peer name eth0 netns "$CNI_NETNS" && ip link set "$host" up && ip route add $ip/32 dev "$host"
  nsenter --net="$CNI_NETNS" sh -c "ip addr add $ip/24 dev eth0 && ip link set eth0 up"
  echo '{"cniVersion":"0.3.1","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"version":"4","interface":0,"address":"'$ip/24'"}]}'
  exit 0
fi
ip link del "$host" 2>/dev/null
exit 0
"""
CONTAINERD = """
version = 2
root = "@ROOT@/containerd"
state = "@ROOT@/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "@ROOT@/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "test.local/busybox:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "@ROOT@/cni-bin"
    conf_dir = "@ROOT@/cni-conf"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def busybox_image(path: Path) -> None:
    """A docker archive of the static busybox, which also serves as the sandbox's image."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("bin", "tmp", "etc", "proc", "sys", "dev"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(info)
        info = tarfile.TarInfo("bin/busybox")
        data = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
        info.size, info.mode = len(data), 0o755
        tar.addfile(info, io.BytesIO(data))
        for name in (
            "sh",
            "sleep",
            "cat",
            "touch",
            "test",
            "rm",
            "env",
            "id",
            "echo",
            "true",
            "false",
            "ls",
            "stat",
            "hostname",
            "kill",
            "ps",
        ):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    diff = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
    }
    raw = json.dumps(config).encode()
    name = hashlib.sha256(raw).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for entry, content in (
            (f"{name}.json", raw),
            ("layer.tar", layer.getvalue()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def certificates(folder: Path) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now, pem = datetime.now(UTC), serialization.Encoding.PEM

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def build(subject: str, key: Any, signer: Any, ca: bool) -> x509.Certificate:
        made = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        return made.sign(signer, hashes.SHA256())

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.crt").write_bytes(build("ca", authority, authority, True).public_bytes(pem))
    (folder / "server.crt").write_bytes(build("apiserver", key, authority, False).public_bytes(pem))
    for file, each in (("server.key", key), ("sa.key", ec.generate_private_key(ec.SECP256R1()))):
        text = each.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        (folder / file).write_bytes(text)
    return (folder / "ca.crt").read_text()


class Lab:
    """All the processes, and what a test does with them."""

    def __init__(self, folder: Path, cgroup: str) -> None:
        self.folder = folder
        self.cgroup = cgroup
        self.kubelet_process: subprocess.Popen[bytes] | None = None
        self.client: Client

    def daemon(self, *command: str, name: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(list(command), stdout=log, stderr=log)

    def python(self, module: str, *args: str) -> subprocess.Popen[bytes]:
        return self.daemon(sys.executable, "-m", f"kubeling.{module}", *args, name=module)

    def prepare(self) -> None:
        """The network, the image, containerd's configuration."""
        for command in ("ip link set lo up", "mount --make-rshared /", "umount /sys/fs/cgroup/unified"):
            subprocess.run(command.split(), check=command.startswith("ip"), capture_output=True)
        for name in ("cni-bin", "cni-conf"):
            (self.folder / name).mkdir()
        (self.folder / "next").write_text("2")
        for name in ("loopback", "lab"):
            plugin = self.folder / "cni-bin" / name
            plugin.write_text(PLUGIN.replace("@STATE@", str(self.folder)))
            plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
        conf = {"cniVersion": "0.3.1", "name": "lab", "plugins": [{"type": "lab"}]}
        (self.folder / "cni-conf" / "10-lab.conflist").write_text(json.dumps(conf))
        (self.folder / "config.toml").write_text(CONTAINERD.replace("@ROOT@", str(self.folder)))
        self.daemon("containerd", "-c", str(self.folder / "config.toml"), name="containerd")
        busybox_image(self.folder / "busybox.tar")
        deadline = time.monotonic() + 20
        load = [
            "ctr",
            "-a",
            str(self.folder / "containerd.sock"),
            "-n",
            "k8s.io",
            "images",
            "import",
            str(self.folder / "busybox.tar"),
        ]
        while subprocess.run(load, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError("containerd does not take the image")
            time.sleep(0.1)

    def control_plane(self) -> None:
        folder, ca = self.folder, certificates(self.folder)
        (folder / "tokens.csv").write_text(f'secret,admin,{uuid.uuid4()},"system:masters"\n')
        self.python(
            "etcdlite",
            "--name=m",
            f"--data-dir={folder / 'store'}",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=m=http://127.0.0.1:2380",
        )
        self.python(
            "apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--secure-port=6443",
            f"--tls-cert-file={folder / 'server.crt'}",
            f"--tls-private-key-file={folder / 'server.key'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
        )
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [
                {"name": "c", "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority": str(folder / "ca.crt")}}
            ],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        self.client = Client(ClientConfig(("https://127.0.0.1:6443",), ca_pem=ca, token="secret"))

    def kubelet(self) -> None:
        self.kubelet_process = self.python(
            "kubelet",
            f"--kubeconfig={self.folder / 'kubeconfig'}",
            f"--container-runtime-endpoint=unix://{self.folder / 'containerd.sock'}",
            f"--hostname-override={NODE}",
            "--node-ip=127.0.0.1",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cgroup-root={self.cgroup}",
            "--port=0",
            "--healthz-port=0",
        )

    async def run(self, name: str, script: str, container: dict[str, Any] | None = None, **spec: Any) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": NODE,
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 5,
                "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", script], **(container or {})}],
                **spec,
            },
        }
        await self.client.create(PODS, body)

    async def until(self, name: str, what: Callable[[dict[str, Any]], Any], seconds: float = 40) -> dict[str, Any]:
        deadline, pod = time.monotonic() + seconds, {}
        while time.monotonic() < deadline:
            pod = await self.client.get(PODS, name, "default")
            if what(pod):
                return pod
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{name}: {json.dumps(pod.get('status'))}")

    async def gone(self, name: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                await self.client.get(PODS, name, "default")
            except ApiError as error:
                if error.code == 404:
                    return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{name} is still there")

    def log(self, pod: dict[str, Any], attempt: int = 0) -> str:
        meta = pod["metadata"]
        path = self.folder / "kubelet" / "log" / "pods" / f"default_{meta['name']}_{meta['uid']}" / "c" / f"{attempt}.log"
        return "".join(line.split(" ", 3)[3] for line in path.read_text().splitlines(keepends=True))


FOREVER = "trap 'exit 0' TERM; while true; do sleep 0.1; done"


def step(words: str) -> None:
    print(f"ok: {words}", flush=True)


async def scenario(lab: Lab) -> None:
    client = lab.client
    deadline = time.monotonic() + 40
    while True:
        try:
            node = await client.get(NODES, NODE)
            if any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"]):
                break
        except (ApiError, ConnectionFailed, KeyError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError("the node is not ready")
        await asyncio.sleep(0.1)
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://1.")
    assert any(IMAGE in each["names"] for each in node["status"]["images"])
    step("the node is ready on containerd")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    try:
        await client.create(SERVICE_ACCOUNTS, account, "default")
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"KEY": "value"}}
    await client.create(CONFIG_MAPS, data, "default")
    await everything(lab)
    await crashes(lab)
    await probes(lab)
    await endings(lab)
    await survival(lab)


async def everything(lab: Lab) -> None:
    await lab.run(
        "all",
        "cat /cfg/KEY; echo; echo $KEY $IP; id -u; cat /tmp/one; " + FOREVER,
        {
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "envFrom": [{"configMapRef": {"name": "settings"}}],
            "volumeMounts": [{"name": "v", "mountPath": "/cfg"}, {"name": "e", "mountPath": "/tmp"}],
            "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
            "securityContext": {"runAsUser": 1234},
        },
        initContainers=[
            {
                "name": "i",
                "image": IMAGE,
                "command": ["sh", "-c", "echo init > /tmp/one"],
                "volumeMounts": [{"name": "e", "mountPath": "/tmp"}],
            }
        ],
        volumes=[{"name": "v", "configMap": {"name": "settings"}}, {"name": "e", "emptyDir": {"medium": "Memory"}}],
    )
    pod = await lab.until("all", is_ready)
    deadline = time.monotonic() + 5
    while "init" not in lab.log(pod) and time.monotonic() < deadline:  # noqa: ASYNC110 - a file
        await asyncio.sleep(0.05)
    assert lab.log(pod).split() == ["value", "value", pod["status"]["podIP"], "1234", "init"], lab.log(pod)
    status = container_status(pod, "c") or {}
    assert status["containerID"].startswith("containerd://"), status
    assert status["imageID"], status
    limits = Path(f"/sys/fs/cgroup/memory{lab.cgroup}/kubepods").glob(f"**/pod{pod['metadata']['uid']}/*/memory.limit_in_bytes")
    assert str(64 * 2**20) in [each.read_text().strip() for each in limits]
    step("environment, volumes, init container, user and limits")


async def crashes(lab: Lab) -> None:
    await lab.run("crash", "echo bye; echo words > /dev/termination-log; exit 3")
    pod = await lab.until("crash", lambda pod: "CrashLoopBackOff" in json.dumps(pod.get("status", {})))
    ended = (container_status(pod, "c") or {})["lastState"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "words\n"), ended
    await lab.run("done", "exit 0", restartPolicy="Never")
    await lab.until("done", lambda pod: phase_of(pod) == "Succeeded")
    await lab.run("bad", "exit 1", {"image": "test.local/none:1", "imagePullPolicy": "Never"})
    await lab.until("bad", lambda pod: "ErrImageNeverPull" in json.dumps(pod.get("status", {})))
    step("crashes, ends and missing images")


async def probes(lab: Lab) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
    await lab.run("probed", "sleep 1; touch /tmp/ok; sleep 2; rm /tmp/ok; " + FOREVER, {"readinessProbe": probe})
    await lab.until("probed", is_ready)
    await lab.until("probed", lambda pod: not is_ready(pod))
    alive = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    await lab.run("dead", FOREVER, {"livenessProbe": alive})
    await lab.until("dead", lambda pod: (container_status(pod, "c") or {}).get("restartCount"))
    step("probes")


async def endings(lab: Lab) -> None:
    for name in ("all", "crash", "done", "bad", "probed", "dead"):
        await lab.client.delete(PODS, name, "default")
    for name in ("all", "crash", "done", "bad", "probed", "dead"):
        await lab.gone(name)
    deadline = time.monotonic() + 10
    while left := [*(lab.folder / "kubelet" / "pods").iterdir(), *(lab.folder / "kubelet" / "log" / "pods").iterdir()]:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.1)
    step("pods end and leave nothing")


async def survival(lab: Lab) -> None:
    """Killed, the kubelet finds its containers; what was force-deleted meanwhile is cleared away."""
    await lab.run("stays", FOREVER)
    await lab.run("goes", FOREVER)
    before = container_status(await lab.until("stays", is_ready), "c") or {}
    gone = await lab.until("goes", is_ready)
    assert lab.kubelet_process is not None
    lab.kubelet_process.send_signal(signal.SIGKILL)
    lab.kubelet_process.wait()
    await lab.client.delete(PODS, "goes", "default", grace_period_seconds=0)
    lab.kubelet()
    folder = lab.folder / "kubelet" / "pods" / gone["metadata"]["uid"]
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline, "the orphan is still there"
        await asyncio.sleep(0.1)
    after = container_status(await lab.until("stays", is_ready), "c") or {}
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    await lab.client.delete(PODS, "stays", "default")
    await lab.gone("stays")
    step("the kubelet was killed and nothing else")


async def main(folder: Path, cgroup: str) -> None:
    lab = Lab(folder, cgroup)
    lab.prepare()
    lab.control_plane()
    lab.kubelet()
    async with lab.client:
        await scenario(lab)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
    # The pid namespace ends with us, and with it everything that was started.
    os._exit(0)
