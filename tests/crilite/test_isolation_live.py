"""What holds a container in, beyond namespaces: tried from the inside."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, eventually

pytestmark = [pytest.mark.live, pytest.mark.root]

_SPY = """
import os
seen = set()
print("ready", flush=True)
while not os.path.exists("/tmp/stop"):
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) not in (1, os.getpid()):
            try:
                name = os.readlink(f"/proc/{pid}/exe")
                seen.add(name)
                fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
                name = os.readlink(f"/proc/self/fd/{fd}")
                seen.add("opened " + name)
                if "python" in name or "memfd" in name:
                    os.write(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), b"x")
                    seen.add("written " + name)
            except OSError:
                pass
print("seen " + repr(sorted(seen)), flush=True)
"""


async def test_exec_shows_nothing_of_the_node(client: Cri) -> None:
    """CVE-2019-5736: neither from beside it, nor as the program that it is made to run itself."""
    everything = cri.LinuxContainerConfig()
    everything.security_context.namespace_options.pid = cri.CONTAINER
    everything.security_context.capabilities.add_capabilities.append("SYS_PTRACE")
    _, container = await client.pod(sys.executable, "-c", _SPY, linux=everything)
    log = (await client.status(container)).log_path
    await eventually(lambda: os.path.exists(log) and "ready" in client.text(log))
    for _ in range(30):
        await client.exec(container, "/bin/true")
    await client.exec(container, "touch", "/tmp/stop")
    await client.finished(container)
    said = client.text(log)
    mine = os.path.realpath(sys.executable)
    assert "seen [" in said
    assert mine not in said
    assert "written" not in said

    script = "#!/proc/self/exe\nimport os\nprint(os.readlink('/proc/self/exe'))\nos.open('/proc/self/exe', os.O_WRONLY)\n"
    _, container = await client.pod("sleep", "1000")
    put = f"import os; open('/tmp/evil', 'w').write({script!r}); os.chmod('/tmp/evil', 0o755)"
    assert (await client.exec(container, sys.executable, "-c", put))[0] == 0
    code, out, problem = await client.exec(container, "/tmp/evil")
    assert code != 0
    assert out == "" or out.startswith("/memfd:crilite-keeper")
    assert "Operation not permitted" in problem or "Text file busy" in problem or "Permission" in problem or not out


async def test_the_keeper_runs_a_copy_that_nobody_can_change(client: Cri, node: Node) -> None:
    exe = f"/proc/{node.keeper_pid}/exe"
    assert os.readlink(exe).startswith("/memfd:crilite-keeper")
    with pytest.raises(OSError, match=r"Operation not permitted|Text file busy|Permission"):
        os.open(exe, os.O_WRONLY)
    assert Path(exe).read_bytes() == Path(sys.executable).read_bytes()


def profile(path: str) -> cri.LinuxContainerConfig:
    linux = cri.LinuxContainerConfig()
    linux.security_context.namespace_options.pid = cri.CONTAINER
    linux.security_context.seccomp.profile_type = cri.SecurityProfile.Localhost
    linux.security_context.seccomp.localhost_ref = path
    return linux


@pytest.mark.parametrize("user", [0, 1234])
async def test_seccomp_profiles_of_the_node(client: Cri, tmp_path: Path, user: int) -> None:
    """The form that docker's, containerd's and CRI-O's profiles have."""
    rules = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 12, "op": "SCMP_CMP_EQ"}]},
            {"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
            # What only the launcher would need: it is done with it by now.
            {"names": ["setresuid", "setresgid", "setgroups", "capset", "prctl", "dup2", "sendto", "recvfrom"], "action": "SCMP_ACT_ERRNO"},
        ],
    }  # fmt: skip
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(rules))
    tmp_path.chmod(0o755)
    script = (
        "mkdir /tmp/x; kill -USR1 $$; kill -USR2 $$; kill -0 $$ && echo alive; touch /tmp/f && chmod 600 /tmp/f && echo changed"
    )
    linux = profile(str(path))
    linux.security_context.run_as_user.value = user
    _, container = await client.pod("sh", "-c", script, linux=linux)
    status = await client.finished(container)
    said, wrong = client.text(status.log_path, "stdout"), client.text(status.log_path, "stderr")
    assert "Operation not supported" in wrong
    assert wrong.count("Operation not permitted") == 2
    assert said == "alive\nchanged\n"
    # Exec is under the same profile.
    _, container = await client.pod("sleep", "1000", linux=linux)
    assert (await client.exec(container, "mkdir", "/tmp/y"))[0] == 1


async def test_seccomp_profiles_that_cannot_be_used(client: Cri, tmp_path: Path) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="is not on this node"):
        await client.pod("true", linux=profile(str(tmp_path / "absent.json")))
    path = tmp_path / "broken.json"
    for text, why in (
        ("{", "cannot be read"),
        ('{"defaultAction": "SCMP_ACT_DREAM"}', "SCMP_ACT_DREAM"),
        ("{}", "defaultAction"),
    ):
        path.write_text(text)
        with pytest.raises(grpc.aio.AioRpcError, match=why):
            await client.pod("true", linux=profile(str(path)))
    path.write_text('{"defaultAction": "SCMP_ACT_KILL_PROCESS"}')
    _, container = await client.pod("sleep", "1000", linux=profile(str(path)))
    assert (await client.finished(container)).exit_code == 159


async def test_a_container_sees_its_own_cgroups_and_cannot_change_them(client: Cri) -> None:
    linux = cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(memory_limit_in_bytes=50 << 20))
    linux.security_context.namespace_options.pid = cri.CONTAINER
    script = """
    cat /proc/self/cgroup | cut -d: -f3 | sort -u
    cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null
    cat /sys/fs/cgroup/memory/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | grep -c .
    mkdir /sys/fs/cgroup/memory/mine /sys/fs/cgroup/mine 2>/dev/null && echo made
    """
    lines = (await client.output("sh", "-c", script, linux=linux)).splitlines()
    assert lines[0] == "/"
    assert lines[-2] == str(50 << 20)
    assert int(lines[-1]) >= 1
    # A container that shares the pid namespace of its pod has its own just so.
    pod = client.pod_config(cri.NamespaceOption(pid=cri.POD))
    shared = cri.LinuxContainerConfig()
    shared.security_context.namespace_options.pid = cri.POD
    assert "/" in (await client.output("sh", "-c", script, pod=pod, linux=shared)).splitlines()


async def test_huge_pages_are_limited(client: Cri, node: Node) -> None:
    tops = [
        path for path in (Path("/sys/fs/cgroup/hugetlb"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if path.is_dir()
    ]
    limits = [cri.HugepageLimit(page_size="2MB", limit=4 << 20), cri.HugepageLimit(page_size="1GB", limit=0)]
    linux = cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(hugepage_limits=limits))
    linux.security_context.namespace_options.pid = cri.CONTAINER
    _, container = await client.pod("sleep", "1000", linux=linux)
    found = [
        path
        for top in tops
        for path in top.glob(f"{node.cgroup_root[1:]}/*/{container}/hugetlb.2MB.*")
        if path.name.endswith(("max", "limit_in_bytes"))
    ]
    if not found:
        pytest.skip("there is no hugetlb controller")
    assert {path.read_text() for path in found} == {f"{4 << 20}\n"}
    assert str(os.getpid()) not in (found[0].parent / "cgroup.procs").read_text()
    assert (found[0].parent / "cgroup.procs").read_text()


async def test_the_nodes_dev_as_a_volume_leaves_the_container_its_own_devices(client: Cri, node: Node) -> None:
    """Without privileges it sees all devices of the node and can use those that everybody has, and terminals of its own."""
    before = node.run("ls", "/dev/pts").split()
    script = """
import os, pty
print(open("/dev/zero", "rb").read(1), os.write(os.open("/dev/null", os.O_WRONLY), b"x"), len(open("/dev/urandom", "rb").read(8)), end=" ")
master, slave = pty.openpty()
print(os.ttyname(slave), sorted(os.listdir("/dev/pts")), os.path.exists("/dev/cpu_dma_latency") or os.path.exists("/dev/kmsg"), end=" ")
try:
    os.open("/dev/kmsg", os.O_RDONLY)
    print("opened the kernel's messages")
except OSError as error:
    print(error.strerror)
open("/dev/shm/own", "w").close()
"""
    mounts = [cri.Mount(container_path="/dev/", host_path="/dev")]
    out = await client.output("python3", "-c", script, mounts=mounts)
    assert out == "b'\\x00' 1 8 /dev/pts/0 ['0', 'ptmx'] True Permission denied\n"
    assert node.run("ls", "/dev/pts").split() == before
