"""Pods over CRI: their life, what they see, what they may, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, eventually

pytestmark = [pytest.mark.live, pytest.mark.root]


def security(**values: Any) -> cri.LinuxContainerConfig:
    return cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(**values))


async def test_a_pod_lives_and_leaves_nothing(client: Cri, node: Node) -> None:
    before = node.run("cat", "/proc/mounts")
    events: list[tuple[str, int]] = []
    stream = client.runtime.GetContainerEvents(cri.GetEventsRequest())
    await stream.initial_metadata()

    async def listen() -> None:
        async for event in stream:
            events.append((event.container_id, event.container_event_type))

    listener = asyncio.create_task(listen())
    script = "echo out; echo err >&2; printf unfinished; trap 'exit 7' TERM; while :; do sleep 0.05; done"
    sandbox, container = await client.pod("sh", "-c", script, labels={"app": "web"})

    status = await client.status(container)
    assert status.state == cri.CONTAINER_RUNNING
    assert status.started_at >= status.created_at > 0
    answer = await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))
    assert answer.status.state == cri.SANDBOX_READY
    assert answer.status.network.ip.startswith("10.244.7.")
    assert [one.id for one in answer.containers_statuses] == [container]
    wanted = cri.ContainerFilter(label_selector={"app": "web"}, state=cri.ContainerStateValue(state=cri.CONTAINER_RUNNING))
    listed = await client.runtime.ListContainers(cri.ListContainersRequest(filter=wanted))
    assert [one.id for one in listed.containers] == [container]

    await eventually(lambda: Path(status.log_path).exists() and "err" in client.text(status.log_path))
    await client.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=10))
    status = await client.status(container)
    assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 7, "Error")
    assert client.text(status.log_path, "stdout") == "out\nunfinished\n"
    assert client.text(status.log_path, "stderr") == "err\n"

    await client.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
    await client.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
    await client.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
    await client.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.status(container)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    created, started, stopped, deleted = range(4)
    life = [created, started, stopped, deleted]
    await eventually(lambda: [kind for name, kind in events if name == sandbox] == life)
    assert [kind for name, kind in events if name == container] == life
    listener.cancel()

    assert node.run("cat", "/proc/mounts") == before
    assert "veth" not in node.run("ip", "-br", "link")
    assert not list((node.root / "sandboxes").iterdir())
    assert not list((node.root / "containers").iterdir())
    assert not list((node.state / "sandboxes").iterdir())
    assert not list((node.state / "containers").iterdir())
    groups = [
        path for path in Path("/sys/fs/cgroup").glob(f"*{node.cgroup_root}/**/") if container in str(path) or "/pod" in str(path)
    ]
    assert not groups


async def test_a_container_sees_its_own_world(client: Cri) -> None:
    pod = client.pod_config(dns_config=cri.DNSConfig(servers=["10.96.0.10"], searches=["default.svc"], options=["ndots:5"]))
    script = (
        "hostname; cat /etc/resolv.conf; ls /proc | grep -c '^[0-9]'; ip -o -4 addr show eth0 | awk '{print $4}'; echo $$; pwd; echo $A; "
        "python3 -c 'print(6*7)'; ls -A /run; touch /usr/x && echo written; test -e /usr/x && echo seen"
    )
    envs = [cri.KeyValue(key="A", value=b"b c")]
    text = await client.output("sh", "-c", script, pod=pod, envs=envs, working_dir="/var/lib/new")
    lines = text.splitlines()
    assert lines[0] == pod.hostname
    assert lines[1:4] == ["search default.svc", "nameserver 10.96.0.10", "options ndots:5"]
    assert int(lines[4]) <= 4
    assert lines[5].startswith("10.244.7.")
    assert lines[5].endswith("/32")
    assert lines[6:10] == ["1", "/var/lib/new", "b c", "42"]
    assert lines[10:] == ["written", "seen"]
    # Of the node's /tmp nothing but the interpreter, if it lies there.
    shown = (await client.output("ls", "-A", "/tmp")).split()
    assert shown == ([Path(sys.prefix).parts[2]] if sys.prefix.startswith("/tmp/") else [])
    assert not Path("/usr/x").exists()


async def test_pods_and_node_reach_each_other(client: Cri, node: Node) -> None:
    serve = "python3 -c \"import socket; s=socket.create_server(('',8080))\nwhile 1: c,a=s.accept(); c.sendall(a[0].encode()); c.close()\""
    one, _ = await client.pod("sh", "-c", serve)
    address = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=one))).status.network.ip
    ask = f"""
import socket, time
for _ in range(100):
    try: print(socket.create_connection(({address!r}, 8080), 1).recv(99).decode()); break
    except OSError: time.sleep(.05)
"""
    two, container = await client.pod("python3", "-c", ask)
    mine = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=two))).status.network.ip
    status = await client.finished(container)
    assert client.text(status.log_path) == mine + "\n"
    node.run("ip", "address", "replace", "172.30.0.21/32", "dev", "lo")
    assert node.run("python3", "-c", ask).strip() == "172.30.0.21"


async def test_privileges_are_what_was_asked_for(client: Cri) -> None:
    script = "grep -E '^(Cap(Bnd|Eff|Prm|Amb|Inh)|NoNewPrivs|Groups|Uid|Gid)' /proc/self/status"
    text = await client.output("sh", "-c", script)
    table = {line.split(":")[0]: line.split()[1:] for line in text.splitlines()}
    assert table["CapEff"] == ["00000000a80425fb"]
    assert table["CapBnd"] == ["00000000a80425fb"]
    assert table["NoNewPrivs"] == ["0"]

    linux = security(
        run_as_user=cri.Int64Value(value=1234),
        run_as_group=cri.Int64Value(value=77),
        supplemental_groups=[5, 9],
        no_new_privs=True,
        capabilities=cri.Capability(drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"]),
        namespace_options=cri.NamespaceOption(pid=cri.CONTAINER),
    )
    _, container = await client.pod("sh", "-c", script + "; sleep 100", linux=linux)
    code, text, _ = await client.exec(container, "sh", "-c", script)
    assert code == 0
    table = {line.split(":")[0]: line.split()[1:] for line in text.splitlines()}
    assert table["Uid"] == ["1234"] * 4
    assert table["Gid"] == ["77"] * 4
    assert table["Groups"] == ["5", "9", "77"]
    assert table["CapEff"] == ["0000000000000000"]
    assert table["CapBnd"] == ["0000000000000400"]
    assert table["NoNewPrivs"] == ["1"]
    status = await client.status(container)
    assert (status.user.linux.uid, status.user.linux.gid) == (1234, 77)


@pytest.mark.parametrize("no_new_privs", [False, True])
async def test_the_default_seccomp_profile_holds(client: Cri, no_new_privs: bool) -> None:
    script = "grep ^Seccomp: /proc/self/status; unshare -U true 2>&1; unshare -m true 2>&1; python3 -c 'import threading as t; t.Thread(target=print, args=[1]).start()'"
    own = cri.NamespaceOption(pid=cri.CONTAINER)
    profile = cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault)
    linux = security(seccomp=profile, namespace_options=own, no_new_privs=no_new_privs)
    _, container = await client.pod("sh", "-c", script + "; sleep 1000", linux=linux)
    _, text, _ = await client.exec(container, "sh", "-c", script)
    assert text.splitlines()[0] == "Seccomp:\t2"
    assert text.count("unshare failed: Operation not permitted") == 2
    assert text.splitlines()[-1] == "1"
    log = (await client.status(container)).log_path
    await eventually(lambda: client.text(log) == text)
    profile = cri.SecurityProfile(profile_type=cri.SecurityProfile.Unconfined)
    free = await client.output("sh", "-c", script, linux=security(seccomp=profile, namespace_options=own))
    assert free.splitlines()[0] == "Seccomp:\t0"
    assert free.count("not permitted") == 1


async def test_what_is_closed_stays_closed(client: Cri, node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    mounts = [
        cri.Mount(container_path="/data", host_path=str(tmp_path)),
        cri.Mount(container_path="/ro", host_path=str(tmp_path), readonly=True),
        cri.Mount(container_path="/etc/one", host_path=str(tmp_path / "file"), readonly=True),
    ]
    linux = security(
        readonly_rootfs=True,
        masked_paths=["/proc/kcore", "/proc/acpi", "/sys/firmware"],
        readonly_paths=["/proc/sys", "/proc/irq"],
        namespace_options=cri.NamespaceOption(pid=cri.CONTAINER),
    )
    script = """
    touch /usr/x 2>&1; touch /ro/x 2>&1; cat /etc/one; echo more > /data/made && echo wrote
    echo 1 > /proc/sys/kernel/panic 2>&1; wc -c < /proc/kcore; ls /sys/firmware | wc -l
    for at in /data /dev/shm; do mknod $at/disk b 7 0 && head -c1 $at/disk && echo OPENED; done
    for at in /data /dev/shm; do mknod $at/null c 1 3 && echo x > $at/null && echo OPENED; done 2>&1
    echo y > /dev/null && echo null; mount -t tmpfs x /mnt 2>&1 && echo MOUNTED; echo 1 > /sys/kernel/mm/ksm/run && echo WRITTEN
    """
    text = await client.output("sh", "-c", script, mounts=mounts, linux=linux)
    assert text.count("Read-only file system") >= 3, text
    assert "content\nwrote" in text
    assert "null" in text
    assert text.count("Permission denied") >= 2, text
    assert "OPENED" not in text
    assert "MOUNTED" not in text
    assert "WRITTEN" not in text
    assert (tmp_path / "made").read_text() == "more\n"
    assert (tmp_path / "null").is_char_device()


async def test_hidden_paths_of_the_node_are_empty(client: Cri, node: Node) -> None:
    text = await client.output("sh", "-c", f"ls -A {node.root} {node.state} 2>&1; echo end")
    assert "sandboxes" not in text
    assert text.endswith("end\n")


async def test_what_the_owner_of_the_node_keeps_at_home_is_not_shown(client: Cri) -> None:
    _, container = await client.pod("sleep", "60")
    script = (
        "import os, sys; kept = [each for top in ('/root', '/home') for at, _, files in os.walk(top)"
        " for each in files if not at.startswith((sys.prefix, sys.base_prefix))];"
        " secret = [each for each in ('/etc/shadow', '/etc/gshadow') if os.path.exists(each) and open(each).read()];"
        " print(kept, secret, os.path.isdir('/etc/ssh') and os.listdir('/etc/ssh') or [])"
    )
    code, said, problem = await client.exec(container, "python3", "-c", script)
    assert (code, said) == (0, "[] [] []\n"), problem


@pytest.mark.parametrize("network", [cri.POD, cri.NODE])
async def test_namespaces_are_shared_as_asked(client: Cri, node: Node, network: int) -> None:
    options = cri.NamespaceOption(pid=cri.POD, network=network)  # type: ignore[arg-type]
    sandbox, pod = await client.sandbox(client.pod_config(options))
    first = await client.create(sandbox, pod, "sleep", "1000", name="first")
    await client.start(first)
    second = await client.create(sandbox, pod, "sh", "-c", "sleep 1000", name="second")
    await client.start(second)
    _, text, _ = await client.exec(
        second, "sh", "-c", "for n in pid net ipc uts; do readlink /proc/self/ns/$n; done; cat /proc/*/comm"
    )
    _, other, _ = await client.exec(
        first, "sh", "-c", "for n in pid net ipc uts; do readlink /proc/self/ns/$n; done; cat /proc/*/comm"
    )
    assert text.splitlines()[:4] == other.splitlines()[:4]
    assert text.count("sleep") >= 2
    await client.exec(first, "sh", "-c", "echo x > /dev/shm/y")
    assert (await client.exec(second, "cat", "/dev/shm/y"))[1] == "x\n"
    own = node.run("readlink", "/proc/1/ns/net").strip()
    assert (text.splitlines()[1] == own) == (network == cri.NODE)


async def test_limits_hold(client: Cri) -> None:
    memory = cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(memory_limit_in_bytes=32 << 20))
    _, container = await client.pod("python3", "-c", "x = bytearray(200 << 20)", linux=memory)
    status = await client.finished(container)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")

    fork = "i=0; while [ $i -lt 200 ]; do sleep 60 & i=$((i+1)); done; echo all"
    few = cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(unified={"pids.max": "20"}))
    text = await client.output("sh", "-c", fork, linux=few)
    assert "all" not in text

    slow = cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(cpu_period=100_000, cpu_quota=10_000, cpu_shares=102))
    _, container = await client.pod("sleep", "1000", linux=slow)
    request = cri.LinuxContainerResources(cpu_quota=50_000, memory_limit_in_bytes=64 << 20)
    await client.runtime.UpdateContainerResources(cri.UpdateContainerResourcesRequest(container_id=container, linux=request))
    limits = (await client.status(container)).resources.linux
    assert (limits.cpu_quota, limits.cpu_shares, limits.memory_limit_in_bytes) == (50_000, 102, 64 << 20)
    stats = (await client.runtime.ContainerStats(cri.ContainerStatsRequest(container_id=container))).stats
    assert stats.memory.working_set_bytes.value > 0
    assert stats.cpu.usage_core_nano_seconds.value > 0
    assert stats.memory.available_bytes.value > 0


async def test_exec_and_its_end(client: Cri) -> None:
    _, container = await client.pod("sleep", "1000")
    assert await client.exec(container, "sh", "-c", "echo a; echo b >&2; exit 3") == (3, "a\n", "b\n")
    # A process left behind holds the output open; the command's own end counts.
    code, text, _ = await client.exec(container, "sh", "-c", "sleep 600 & echo done")
    assert (code, text) == (0, "done\n")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.exec(container, "sleep", "100", timeout=1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    _, text, _ = await client.exec(container, "sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '")
    assert "sleep 100 " not in text.replace("sleep 1000", "")
    big = await client.exec(container, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x")
    assert len(big[1]) == 3_000_000
    with pytest.raises(grpc.aio.AioRpcError, match="not found in"):
        await client.exec(container, "no-such-program")


async def test_mistakes_are_named(client: Cri) -> None:
    sandbox, pod = await client.sandbox()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.sandbox(pod)
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create(sandbox, pod, "true", image="registry.invalid/none:1")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    linux = security(capabilities=cri.Capability(add_capabilities=["FLYING"]))
    with pytest.raises(grpc.aio.AioRpcError, match="unknown capability"):
        await client.create(sandbox, pod, "true", linux=linux)
    with pytest.raises(grpc.aio.AioRpcError, match="no runtime handler"):
        await client.sandbox(handler="none")
    container = await client.create(sandbox, pod, "no-such-program")
    with pytest.raises(grpc.aio.AioRpcError, match="executable file not found"):
        await client.start(container)
    status = await client.status(container)
    assert (status.state, status.reason, status.exit_code) == (cri.CONTAINER_EXITED, "StartError", 128)
    linux = security(run_as_username="nobody-knows", namespace_options=cri.NamespaceOption(pid=cri.CONTAINER))
    container = await client.create(sandbox, pod, "true", name="user", linux=linux)
    with pytest.raises(grpc.aio.AioRpcError, match="unable to find user"):
        await client.start(container)
    mounts = [cri.Mount(container_path="/x", host_path="/does/not/exist")]
    container = await client.create(sandbox, pod, "true", name="mount", mounts=mounts)
    with pytest.raises(grpc.aio.AioRpcError, match="/does/not/exist"):
        await client.start(container)


async def test_logs_are_rotated_and_long_lines_cut(client: Cri) -> None:
    script = "head -c 40000 /dev/zero | tr '\\0' x; echo; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; sleep 1000"
    _, container = await client.pod("sh", "-c", script)
    path = Path((await client.status(container)).log_path)
    await eventually(lambda: path.exists() and " F " in path.read_text())
    flags = [line.split(" ", 3)[2] for line in path.read_text().splitlines()]
    assert flags == ["P", "P", "F"]
    path.rename(path.with_suffix(".1"))
    await client.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container))
    await client.exec(container, "touch", "/tmp/go")
    await eventually(lambda: path.exists() and client.text(str(path)) == "after\n")


async def test_nothing_of_the_runtime_leaks_into_a_container(client: Cri) -> None:
    text = await client.output("sh", "-c", "ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; cat /proc/self/mounts")
    lines = text.splitlines()
    # The directory itself, as ls reads it, is the fourth.
    assert lines[:4] == ["0", "1", "2", "3"]
    assert lines[4].split()[1] == lines[5].split()[1] == "0" * 16
    assert "/pinned" not in text
    assert "/ns/" not in text
    assert "nsfs" not in text


async def test_mounts_propagate_as_asked(client: Cri, node: Node) -> None:
    shared = node.folder / "shared"
    shared.mkdir()
    node.run("mount", "--bind", str(shared), str(shared))
    node.run("mount", "--make-shared", str(shared))
    privileged = security(privileged=True, namespace_options=cri.NamespaceOption(pid=cri.CONTAINER))
    pod = client.pod_config()
    pod.linux.security_context.privileged = True
    kinds = {"/p": cri.PROPAGATION_PRIVATE, "/h": cri.PROPAGATION_HOST_TO_CONTAINER, "/b": cri.PROPAGATION_BIDIRECTIONAL}
    mounts = [cri.Mount(container_path=path, host_path=str(shared), propagation=kind) for path, kind in kinds.items()]
    _, container = await client.pod("sleep", "1000", pod=pod, mounts=mounts, linux=privileged)
    node.run("sh", "-c", f"mkdir {shared}/new && mount -t tmpfs from-node {shared}/new")
    _, text, _ = await client.exec(container, "cat", "/proc/mounts")
    seen = {line.split()[1] for line in text.splitlines() if line.startswith("from-node")}
    assert seen == {"/h/new", "/b/new"}
    await client.exec(container, "sh", "-c", "mkdir /b/back && mount -t tmpfs from-pod /b/back")
    assert "from-pod" in node.run("cat", "/proc/mounts")
    node.run("umount", "-R", str(shared))
