"""Containers by OCI runtimes: in a pod they are what native ones are."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from pathlib import Path

import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, eventually
from tests.crilite.test_userns_live import options

pytestmark = [pytest.mark.live, pytest.mark.root]
HANDLERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name}: apt-get install {name}"))
    for name in ("crun", "runc")
]
_FOREVER = "trap 'exit 3' TERM; echo begun; while :; do sleep 0.1; done"


@pytest.mark.parametrize("handler", HANDLERS)
async def test_the_life_of_a_container(client: Cri, node: Node, box: str, handler: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mounted\n")
    tmp_path.chmod(0o755)
    mounts = [cri.Mount(container_path="/volume", host_path=str(tmp_path), readonly=True)]
    linux = cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(memory_limit_in_bytes=64 << 20))
    context = linux.security_context
    context.namespace_options.pid = cri.CONTAINER
    context.run_as_username = "web"
    context.no_new_privs = True
    context.seccomp.profile_type = cri.SecurityProfile.RuntimeDefault
    pod = client.pod_config()
    sandbox, container = await client.pod("sh", "-c", _FOREVER, image=box, handler=handler, pod=pod, linux=linux, mounts=mounts)
    status = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))).status
    assert status.runtime_handler == handler
    script = "id -u; id -g; hostname; cat /volume/file; touch /volume/x 2>/dev/null || echo closed; cat /etc/hosts | tail -n 1; echo err >&2; exit 7"
    code, said, wrong = await client.exec(container, "sh", "-c", script)
    assert (code, wrong) == (7, "err\n")
    assert said.splitlines() == ["1000", "2000", pod.hostname, "mounted", "closed", f"{status.network.ip}\t{pod.hostname}"]
    code, said, _ = await client.exec(container, "cat", "/proc/self/status")
    found = dict(re.findall(r"(NoNewPrivs|Seccomp|CapEff):\s+(\S+)", said))
    assert found == {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16}
    with pytest.raises(grpc.aio.AioRpcError, match="no-such-program"):
        await client.exec(container, "no-such-program")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.exec(container, "sleep", "100", timeout=1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.gather(*(client.exec(container, "true") for _ in range(4)), return_exceptions=True)
    current = await client.status(container)
    assert current.user.linux.uid == 1000
    folder = next(Path("/sys/fs/cgroup").glob(f"memory{node.cgroup_root}/*/{container}"), None)
    if folder is not None:
        assert (folder / "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
        assert (folder / "cgroup.procs").read_text()
    # A new daemon finds it, and a new keeper goes on with it.
    node.kill_daemon(signal.SIGKILL)
    os.kill(node.keeper_pid, signal.SIGKILL)
    node.start()
    await client.ready()
    assert (await client.status(container)).state == cri.CONTAINER_RUNNING
    await client.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=10))
    status = await client.status(container)
    assert status.state == cri.CONTAINER_EXITED
    # One of which nobody knows any more is cleared away by the next daemon, from the runtime's own books too.
    lost = await client.create(sandbox, pod, "sleep", "1000", image=box, name="lost")
    await client.start(lost)
    node.kill_daemon(signal.SIGKILL)
    (node.root / "containers" / lost / "record.json").unlink()
    node.start()
    await client.ready()
    assert lost not in os.listdir(node.state / "oci" / handler)
    await eventually(lambda: lost not in os.listdir(node.state / "containers"))
    assert client.text(status.log_path) == "begun\n"
    await client.clean()
    assert not list((node.state / "oci" / handler).iterdir())
    assert not list((node.state / "containers").iterdir())
    assert "overlay" not in [
        line.split()[0] for line in node.run("cat", "/proc/self/mounts").splitlines() if str(node.state) in line
    ]
    assert not list(Path("/sys/fs/cgroup").glob(f"*{node.cgroup_root}/*/{container}"))


@pytest.mark.parametrize("handler", HANDLERS)
async def test_ends_and_failures(client: Cri, box: str, handler: str, node: Node, tmp_path: Path) -> None:
    for script, code, reason in (("exit 0", 0, "Completed"), ("exit 5", 5, "Error"), ("kill -9 $$", 137, "Error")):
        sandbox, config = await client.sandbox(client.pod_config(cri.NamespaceOption(pid=cri.POD)), handler)
        linux = cri.LinuxContainerConfig()
        linux.security_context.namespace_options.pid = cri.POD
        container = await client.create(sandbox, config, "sh", "-c", f"echo said; {script}", image=box, linux=linux)
        await client.start(container)
        status = await client.finished(container)
        assert (status.exit_code, status.reason) == (code, reason)
        assert client.text(status.log_path) == "said\n"
    with pytest.raises(grpc.aio.AioRpcError, match="no-such-program"):
        await client.pod("no-such-program", image=box, handler=handler)
    failed = (
        await client.runtime.ListContainers(
            cri.ListContainersRequest(filter=cri.ContainerFilter(pod_sandbox_id=client.sandboxes[-1]))
        )
    ).containers
    status = await client.status(failed[0].id)
    assert (status.state, status.reason) == (cri.CONTAINER_EXITED, "StartError")
    # The node's own image, and a profile of the node's.
    (tmp_path / "profile.json").write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]})
    )
    linux = cri.LinuxContainerConfig()
    linux.security_context.namespace_options.pid = cri.CONTAINER
    linux.security_context.seccomp.profile_type = cri.SecurityProfile.Localhost
    linux.security_context.seccomp.localhost_ref = str(tmp_path / "profile.json")
    assert (
        await client.output("sh", "-c", "mkdir /tmp/x 2>/dev/null || echo refused", handler=handler, linux=linux) == "refused\n"
    )
    with pytest.raises(grpc.aio.AioRpcError, match="has no user namespaces"):
        await client.sandbox(client.pod_config(options()), handler)
    shared = cri.Mount(container_path="/x", host_path=str(tmp_path), propagation=cri.PROPAGATION_BIDIRECTIONAL)
    with pytest.raises(grpc.aio.AioRpcError, match="Bidirectional"):
        await client.pod("true", image=box, handler=handler, mounts=[shared])


@pytest.mark.parametrize("handler", HANDLERS)
async def test_a_terminal(client: Cri, box: str, handler: str) -> None:
    _, container = await client.pod("sh", "-c", "test -t 0 && echo terminal; sleep 1000", image=box, handler=handler, tty=True)
    path = (await client.status(container)).log_path
    await eventually(lambda: os.path.exists(path) and "terminal" in client.text(path))
