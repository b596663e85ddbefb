"""What the description of the Container Runtime Interface promises, seen through its socket only: the same tests against crilite and containerd.

Nothing here is about how a runtime does it. What one of them has not at all (it says UNIMPLEMENTED) is skipped there, visibly.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite import archives
from tests.crilite.conftest import Cri, Node, eventually
from tests.crilite.runtimes import ContainerdNode, missing

BUSYBOX = Path("/bin/busybox")
IMAGE = "registry.invalid/conformance/box:1"
pytestmark = [
    pytest.mark.live,
    pytest.mark.root,
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs a static busybox: apt-get install busybox-static"),
]

_APPLETS = (
    "sh",
    "cat",
    "ls",
    "id",
    "sleep",
    "echo",
    "env",
    "pwd",
    "hostname",
    "ps",
    "dd",
    "grep",
    "mount",
    "touch",
    "seq",
    "tail",
    "true",
    "kill",
)
_FOREVER = "trap 'exit 0' TERM; echo begun; while :; do sleep 0.1; done"


@pytest.fixture(
    scope="module",
    params=[
        "crilite",
        pytest.param("containerd", marks=pytest.mark.skipif(bool(missing()), reason=missing())),
    ],
)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("namespaces are tried as root")
    folder = tmp_path_factory.mktemp("node")
    archive = tmp_path_factory.mktemp("image") / "box.tar"
    root = archives.layer(
        ("bin/", None), ("bin/busybox", BUSYBOX.read_bytes()), *(archives.link(f"bin/{name}", "busybox") for name in _APPLETS),
        ("etc/", None), ("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:1000:2000::/home/web:/bin/sh\n"),
        ("etc/group", b"root:x:0:\nweb:x:2000:\nextra:x:3000:web\n"), ("work/", None), ("tmp/", None),
    )  # fmt: skip
    values = {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["while :; do sleep 100; done"],
        "Env": ["PATH=/bin", "FROM=image"],
        "WorkingDir": "/work",
    }
    archives.oci(archive, IMAGE, [root], **values)
    name = f"conform-{request.param}-{worker_id}-{os.getpid()}"
    made = Node(folder, name) if request.param == "crilite" else ContainerdNode(folder, name, archive, IMAGE)
    if request.param == "crilite":
        from tests.crilite.test_images_live import load

        load(made, archive)
    made.start()
    try:
        yield made
    finally:
        made.close()


class Runtime(Cri):
    """With the image that both have, and pods that say which namespaces they want."""

    cgroup = ""

    def pod_config(self, options: cri.NamespaceOption | None = None, **values: Any) -> cri.PodSandboxConfig:
        made = super().pod_config(options, **values)
        made.linux.cgroup_parent = f"{self.cgroup}/{made.metadata.name}"
        return made

    async def create(self, sandbox: str, pod: cri.PodSandboxConfig, *command: str, **values: Any) -> str:
        values.setdefault("image", IMAGE)
        return await super().create(sandbox, pod, *command, **values)

    async def sandbox_status(self, sandbox: str) -> cri.PodSandboxStatus:
        answer = await self.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))
        found: cri.PodSandboxStatus = answer.status
        return found


@pytest.fixture
async def client(node: Node) -> AsyncIterator[Runtime]:
    made = Runtime(f"unix://{node.socket}", node.logs)
    made.cgroup = f"{node.cgroup_root}/pods"
    await made.ready()
    try:
        yield made
        for one in (await made.runtime.ListPodSandbox(cri.ListPodSandboxRequest())).items:
            await made.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=one.id))
            await made.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=one.id))
    finally:
        await made.channel.close()


def implemented(error: grpc.aio.AioRpcError) -> None:
    """Skip where the runtime has not this call at all."""
    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
        pytest.skip("the runtime does not have this call")


def code(caught: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> grpc.StatusCode:
    return caught.value.code()


def linux(**values: Any) -> cri.LinuxContainerConfig:
    made = cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(**values))
    made.security_context.namespace_options.pid = cri.CONTAINER
    return made


async def test_the_runtime_presents_itself(client: Runtime) -> None:
    version = await client.runtime.Version(cri.VersionRequest())
    assert version.runtime_name
    assert version.runtime_version
    assert version.runtime_api_version == "v1"
    status = await client.runtime.Status(cri.StatusRequest(verbose=True))
    assert {one.type: one.status for one in status.status.conditions} == {"RuntimeReady": True, "NetworkReady": True}
    assert status.info


async def test_a_sandbox_from_run_to_remove(client: Runtime) -> None:
    config = client.pod_config(labels={"app": "a"}, annotations={"note": "n"})
    sandbox, _ = await client.sandbox(config)
    status = await client.sandbox_status(sandbox)
    assert status.id == sandbox
    assert status.state == cri.SANDBOX_READY
    assert status.metadata == config.metadata
    assert dict(status.labels) == {"app": "a"}
    assert dict(status.annotations) == {"note": "n"}
    assert status.created_at > 10**18
    assert status.network.ip.startswith("10.244.")
    assert status.linux.namespaces.options.pid == cri.CONTAINER

    async def ids(**values: Any) -> list[str]:
        answer = await client.runtime.ListPodSandbox(cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(**values)))
        return [one.id for one in answer.items]

    ready, gone = cri.PodSandboxStateValue(state=cri.SANDBOX_READY), cri.PodSandboxStateValue(state=cri.SANDBOX_NOTREADY)
    assert await ids(id=sandbox) == [sandbox]
    assert await ids(label_selector={"app": "a"}, state=ready) == [sandbox]
    assert await ids(label_selector={"app": "b"}) == []
    assert sandbox not in await ids(state=gone)
    with pytest.raises(grpc.aio.AioRpcError):
        await client.runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=config))

    stop = cri.StopPodSandboxRequest(pod_sandbox_id=sandbox)
    await client.runtime.StopPodSandbox(stop)
    await client.runtime.StopPodSandbox(stop)
    assert (await client.sandbox_status(sandbox)).state == cri.SANDBOX_NOTREADY
    with pytest.raises(grpc.aio.AioRpcError):
        await client.create(sandbox, config, "true")
    remove = cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox)
    await client.runtime.RemovePodSandbox(remove)
    await client.runtime.RemovePodSandbox(remove)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.sandbox_status(sandbox)
    assert code(caught) == grpc.StatusCode.NOT_FOUND


async def test_a_container_from_create_to_remove(client: Runtime) -> None:
    sandbox, config = await client.sandbox()
    container = await client.create(sandbox, config, "sh", "-c", _FOREVER, labels={"role": "main"}, annotations={"k": "v"})
    status = await client.status(container)
    assert status.state == cri.CONTAINER_CREATED
    assert status.created_at > 10**18
    assert (status.started_at, status.finished_at) == (0, 0)
    assert status.metadata.name == "main"
    assert status.image.image
    assert status.image_ref
    assert status.log_path == f"{config.log_directory}/main.log"
    await client.start(container)
    status = await client.status(container)
    assert status.state == cri.CONTAINER_RUNNING
    assert status.started_at >= status.created_at
    with pytest.raises(grpc.aio.AioRpcError):
        await client.start(container)
    with pytest.raises(grpc.aio.AioRpcError):
        await client.create(sandbox, config, "true")

    async def ids(**values: Any) -> list[str]:
        answer = await client.runtime.ListContainers(cri.ListContainersRequest(filter=cri.ContainerFilter(**values)))
        return [one.id for one in answer.containers]

    running = cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)
    assert await ids(id=container) == [container]
    assert await ids(pod_sandbox_id=sandbox, state=running, label_selector={"role": "main"}) == [container]
    assert await ids(pod_sandbox_id=sandbox, label_selector={"role": "other"}) == []
    # A first process that has not asked for a signal yet does not get it.
    await eventually(lambda: os.path.exists(status.log_path) and "begun" in Path(status.log_path).read_text(), 30)
    stop = cri.StopContainerRequest(container_id=container, timeout=20)
    await client.runtime.StopContainer(stop)
    await client.runtime.StopContainer(stop)
    status = await client.status(container)
    assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 0, "Completed")
    assert status.finished_at >= status.started_at
    remove = cri.RemoveContainerRequest(container_id=container)
    await client.runtime.RemoveContainer(remove)
    await client.runtime.RemoveContainer(remove)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.status(container)
    assert code(caught) == grpc.StatusCode.NOT_FOUND
    # A container that ignores its signal is killed in the end; a running one can be removed by force.
    _, stubborn = await client.pod("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    await client.runtime.StopContainer(cri.StopContainerRequest(container_id=stubborn, timeout=1))
    status = await client.status(stubborn)
    assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 137, "Error")
    _, alive = await client.pod("sleep", "1000")
    await client.runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=alive))
    with pytest.raises(grpc.aio.AioRpcError):
        await client.status(alive)


@pytest.mark.parametrize(
    ("script", "exit_code", "reason"),
    [("exit 0", 0, "Completed"), ("exit 7", 7, "Error"), ("kill -9 $$", 137, "Error")],
)
async def test_how_it_ended(client: Runtime, script: str, exit_code: int, reason: str) -> None:
    sandbox, config = await client.sandbox(client.pod_config(cri.NamespaceOption(pid=cri.POD)))
    container = await client.create(sandbox, config, "sh", "-c", script)
    await client.start(container)
    status = await client.finished(container)
    assert (status.exit_code, status.reason) == (exit_code, reason)


async def test_out_of_memory_is_called_so(client: Runtime) -> None:
    limit = cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(memory_limit_in_bytes=20 << 20))
    limit.security_context.namespace_options.pid = cri.CONTAINER
    _, container = await client.pod("dd", "if=/dev/zero", "of=/dev/null", "bs=100M", linux=limit)
    status = await client.finished(container)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


async def test_command_arguments_environment_and_directory(client: Runtime) -> None:
    assert await client.output(args=["echo $FROM; pwd"]) == "image\n/work\n"
    assert await client.output("echo", args=["a", "b"]) == "a b\n"
    envs = [cri.KeyValue(key="FROM", value=b"pod"), cri.KeyValue(key="MORE", value=b"x y")]
    text = await client.output("sh", "-c", "echo $FROM; echo $MORE; pwd", envs=envs, working_dir="/tmp")
    assert text == "pod\nx y\n/tmp\n"
    with pytest.raises(grpc.aio.AioRpcError):
        await client.pod("no-such-program")
    with pytest.raises(grpc.aio.AioRpcError):
        await client.pod("true", image="registry.invalid/conformance/absent:1")


async def test_who_it_runs_as(client: Runtime) -> None:
    assert (
        await client.output("id", linux=linux(run_as_username="web"))
        == "uid=1000(web) gid=2000(web) groups=2000(web),3000(extra)\n"
    )
    wanted = linux(run_as_user=cri.Int64Value(value=1234), run_as_group=cri.Int64Value(value=56), supplemental_groups=[7, 8])
    assert (await client.output("id", linux=wanted)).startswith("uid=1234 gid=56 groups=")
    privileges = await client.output(
        "grep", "-E", "^(NoNewPrivs|CapEff|CapBnd)", "/proc/self/status", linux=linux(no_new_privs=True)
    )
    assert "NoNewPrivs:\t1" in privileges
    dropped = linux(capabilities=cri.Capability(drop_capabilities=["ALL"]))
    assert await client.output("grep", "CapEff", "/proc/self/status", linux=dropped) == "CapEff:\t0000000000000000\n"
    added = linux(capabilities=cri.Capability(drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"]))
    assert await client.output("grep", "CapEff", "/proc/self/status", linux=added) == "CapEff:\t0000000000000400\n"
    default = await client.output("grep", "CapEff", "/proc/self/status")
    assert default == "CapEff:\t00000000a80425fb\n"


async def test_files_that_are_closed(client: Runtime) -> None:
    script = "touch /x 2>/dev/null && echo written; cat /proc/kcore /proc/secret 2>/dev/null; ls /proc/acpi 2>/dev/null; touch /proc/sys/kernel/x 2>/dev/null; echo end"
    closed = linux(readonly_rootfs=True, masked_paths=["/proc/kcore", "/proc/acpi"], readonly_paths=["/proc/sys"])
    assert await client.output("sh", "-c", script, linux=closed) == "end\n"
    privileged = client.pod_config()
    privileged.linux.security_context.privileged = True
    text = await client.output(
        "sh", "-c", "grep CapBnd /proc/self/status; ls /dev/loop-control", pod=privileged, linux=linux(privileged=True)
    )
    bounding = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert text.splitlines()[0] == bounding
    with pytest.raises(grpc.aio.AioRpcError):
        await client.pod("true", linux=linux(privileged=True))


async def test_mounts(client: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    mounts = [
        cri.Mount(container_path="/rw", host_path=str(tmp_path)),
        cri.Mount(container_path="/ro", host_path=str(tmp_path), readonly=True),
        cri.Mount(container_path="/etc/one", host_path=str(tmp_path / "file")),
    ]
    script = "cat /rw/file /ro/file /etc/one; touch /rw/made; touch /ro/not 2>/dev/null || echo refused"
    assert await client.output("sh", "-c", script, mounts=mounts) == "content\ncontent\ncontent\nrefused\n"
    assert (tmp_path / "made").exists()
    if (await client.runtime.Version(cri.VersionRequest())).runtime_name == "containerd":
        return  # The description wants an error for what follows; containerd makes the directory instead.
    with pytest.raises(grpc.aio.AioRpcError):
        await client.pod("true", mounts=[cri.Mount(container_path="/x", host_path=str(tmp_path / "absent" / "deeper"))])


async def test_names_and_resolvers(client: Runtime) -> None:
    pod = client.pod_config(
        dns_config=cri.DNSConfig(servers=["10.96.0.10"], searches=["a.example", "b.example"], options=["ndots:5"])
    )
    text = await client.output("sh", "-c", "hostname; cat /etc/resolv.conf", pod=pod)
    assert text == f"{pod.hostname}\nsearch a.example b.example\nnameserver 10.96.0.10\noptions ndots:5\n"


async def test_namespaces(client: Runtime) -> None:
    sandbox, config = await client.sandbox(client.pod_config(cri.NamespaceOption(pid=cri.POD)))
    first = await client.create(sandbox, config, "sh", "-c", "sleep 12345", name="first")
    second = await client.create(sandbox, config, "sleep", "1000", name="second")
    await client.start(first)
    await client.start(second)
    assert "sleep 12345" in (await client.exec(second, "ps"))[1]
    _, alone = await client.pod("sleep", "1000")
    assert "PID" in (await client.exec(alone, "ps"))[1]
    assert "sleep 12345" not in (await client.exec(alone, "ps"))[1]
    # One container in the pid namespace of another of its pod.
    sandbox, config = await client.sandbox()
    target = await client.create(sandbox, config, "sleep", "4242", name="target")
    await client.start(target)
    options = cri.NamespaceOption(pid=cri.TARGET, target_id=target)
    debug = cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(namespace_options=options))
    inside = await client.create(sandbox, config, "sleep", "1000", name="debug", linux=debug)
    await client.start(inside)
    assert "sleep 4242" in (await client.exec(inside, "ps"))[1]


async def test_exec_sync(client: Runtime) -> None:
    _, container = await client.pod("sh", "-c", _FOREVER)
    assert await client.exec(container, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert (await client.exec(container, "env"))[1].splitlines().count("FROM=image") == 1
    with pytest.raises(grpc.aio.AioRpcError):
        await client.exec(container, "no-such-program")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.exec(container, "sleep", "100", timeout=1)
    assert code(caught) == grpc.StatusCode.DEADLINE_EXCEEDED
    await client.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=10))
    with pytest.raises(grpc.aio.AioRpcError):
        await client.exec(container, "true")


_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] .*")


async def test_logs(client: Runtime) -> None:
    script = "echo one; echo two >&2; seq -s '' 1 9000; echo -n end"
    _, container = await client.pod("sh", "-c", script)
    status = await client.finished(container)
    lines = Path(status.log_path).read_text().splitlines()
    assert all(_LINE.fullmatch(line) for line in lines)
    assert client.text(status.log_path, "stderr") == "two\n"
    text = client.text(status.log_path, "stdout")
    whole = "".join(map(str, range(1, 9001)))
    # Long lines come in pieces; whether a last line without its end is a piece or a line is left open.
    assert text.rstrip("\n") == f"one\n{whole}\nend"
    assert any(" P " in line[:60] for line in lines)


async def test_logs_are_reopened(client: Runtime) -> None:
    _, container = await client.pod("sh", "-c", "while :; do echo tick; sleep 0.05; done")
    path = Path((await client.status(container)).log_path)
    await eventually(lambda: path.exists() and path.stat().st_size)
    path.rename(path.with_suffix(".1"))
    await client.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container))
    await eventually(lambda: path.exists() and path.stat().st_size)
    await client.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=0))
    with pytest.raises(grpc.aio.AioRpcError):
        await client.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container))


async def test_limits_are_changed_while_it_runs(client: Runtime, node: Node) -> None:
    limits = cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_shares=100))
    limits.security_context.namespace_options.pid = cri.CONTAINER
    _, container = await client.pod("sh", "-c", _FOREVER, linux=limits)
    folder = next(Path("/sys/fs/cgroup/memory").glob(f"{node.cgroup_root[1:]}/**/{container}"), None)
    if folder is None:
        pytest.skip("needs cgroup v1's memory controller")
    assert int((folder / "memory.limit_in_bytes").read_text()) == 64 << 20
    for size in (128, 32):
        new = cri.LinuxContainerResources(memory_limit_in_bytes=size << 20, cpu_period=100000, cpu_quota=20000, cpu_shares=512)
        await client.runtime.UpdateContainerResources(cri.UpdateContainerResourcesRequest(container_id=container, linux=new))
        assert int((folder / "memory.limit_in_bytes").read_text()) == size << 20
    cpu = Path("/sys/fs/cgroup/cpu") / folder.relative_to("/sys/fs/cgroup/memory")
    assert (cpu / "cpu.cfs_quota_us").read_text() == "20000\n"
    assert (cpu / "cpu.shares").read_text() == "512\n"


async def test_stats(client: Runtime) -> None:
    sandbox, container = await client.pod("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null; while :; do :; done")

    async def stats() -> cri.ContainerStats:
        answer = await client.runtime.ContainerStats(cri.ContainerStatsRequest(container_id=container))
        found: cri.ContainerStats = answer.stats
        return found

    async def used() -> bool:
        one = await stats()
        return bool(
            one.cpu.usage_core_nano_seconds.value > 50_000_000
            and one.memory.working_set_bytes.value
            and one.writable_layer.used_bytes.value >= 3 << 20
        )

    await eventually(used, 40)
    one = await stats()
    assert one.attributes.id == container
    assert one.attributes.metadata.name == "main"
    assert one.writable_layer.inodes_used.value >= 1
    assert one.cpu.timestamp > 10**18
    listed = await client.runtime.ListContainerStats(
        cri.ListContainerStatsRequest(filter=cri.ContainerStatsFilter(pod_sandbox_id=sandbox))
    )
    assert [entry.attributes.id for entry in listed.stats] == [container]
    try:
        answer = await client.runtime.PodSandboxStats(cri.PodSandboxStatsRequest(pod_sandbox_id=sandbox))
    except grpc.aio.AioRpcError as error:
        implemented(error)
        raise
    assert answer.stats.attributes.id == sandbox
    assert answer.stats.linux.cpu.usage_core_nano_seconds.value > 0
    assert answer.stats.linux.memory.working_set_bytes.value > 0
    assert answer.stats.linux.network.default_interface.name == "eth0"
    assert answer.stats.linux.process.process_count.value >= 1
    assert [entry.attributes.id for entry in answer.stats.linux.containers] == [container]


async def test_images(client: Runtime) -> None:
    async def status(name: str) -> cri.ImageStatusResponse:
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name), verbose=True)
        found: cri.ImageStatusResponse = await client.images.ImageStatus(request)
        return found

    answer = await status(IMAGE)
    image = answer.image
    assert IMAGE in image.repo_tags
    assert image.size > 0
    assert image.id
    assert (await status(image.id)).image.id == image.id
    assert not (await status("registry.invalid/conformance/absent:1")).HasField("image")
    listed = (await client.images.ListImages(cri.ListImagesRequest())).images
    assert image.id in [one.id for one in listed]
    await client.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image="registry.invalid/conformance/absent:1")))
    usage = (await client.images.ImageFsInfo(cri.ImageFsInfoRequest())).image_filesystems
    assert usage[0].fs_id.mountpoint
    assert usage[0].timestamp > 10**18
    with pytest.raises(grpc.aio.AioRpcError):
        await client.images.PullImage(cri.PullImageRequest(image=cri.ImageSpec(image="127.0.0.1:1/none:1")))


async def test_streams_are_offered(client: Runtime) -> None:
    sandbox, container = await client.pod("sh", "-c", _FOREVER)
    exec_ = await client.runtime.Exec(cri.ExecRequest(container_id=container, cmd=["true"], stdout=True))
    attach = await client.runtime.Attach(cri.AttachRequest(container_id=container, stdout=True))
    forward = await client.runtime.PortForward(cri.PortForwardRequest(pod_sandbox_id=sandbox, port=[80]))
    for answer, word in ((exec_, "exec"), (attach, "attach"), (forward, "portforward")):
        assert re.fullmatch(rf"http://127\.0\.0\.1:\d+/{word}/\S+", answer.url)
    with pytest.raises(grpc.aio.AioRpcError):
        await client.runtime.Exec(cri.ExecRequest(container_id="absent", cmd=["true"], stdout=True))
    with pytest.raises(grpc.aio.AioRpcError):
        await client.runtime.Exec(cri.ExecRequest(container_id=container, cmd=["true"], stdout=True, stderr=True, tty=True))


async def test_events(client: Runtime) -> None:
    stream = client.runtime.GetContainerEvents(cri.GetEventsRequest())
    try:
        await asyncio.wait_for(stream.initial_metadata(), 10)
        if stream.done():
            implemented(grpc.aio.AioRpcError(await stream.code(), grpc.aio.Metadata(), grpc.aio.Metadata()))
    except TimeoutError:
        pytest.skip("the runtime says nothing before the first event")
    seen: list[tuple[str, int]] = []

    async def read() -> None:
        async for event in stream:
            assert event.created_at > 10**18
            seen.append((event.container_id, event.container_event_type))

    reading = asyncio.create_task(read())
    sandbox, container = await client.pod("true")
    await client.finished(container)
    await client.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
    await client.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
    client.sandboxes.remove(sandbox)
    steps = [cri.CONTAINER_CREATED_EVENT, cri.CONTAINER_STARTED_EVENT, cri.CONTAINER_STOPPED_EVENT, cri.CONTAINER_DELETED_EVENT]
    await eventually(lambda: all((name, step) in seen for name in (sandbox, container) for step in steps))
    for name in (sandbox, container):
        assert [kind for one, kind in seen if one == name] == steps
    stream.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_metrics(client: Runtime) -> None:
    sandbox, container = await client.pod("sh", "-c", "while :; do :; done")
    try:
        described = await client.runtime.ListMetricDescriptors(cri.ListMetricDescriptorsRequest())
    except grpc.aio.AioRpcError as error:
        implemented(error)
        raise
    keys = {one.name: list(one.label_keys) for one in described.descriptors}
    assert {"container_cpu_usage_seconds_total", "container_memory_working_set_bytes"} <= set(keys)
    assert all(one.help for one in described.descriptors)

    async def own() -> cri.PodSandboxMetrics | None:
        answer = await client.runtime.ListPodSandboxMetrics(cri.ListPodSandboxMetricsRequest())
        return next((one for one in answer.pod_metrics if one.pod_sandbox_id == sandbox), None)

    found = await own()
    assert found is not None
    assert [one.container_id for one in found.container_metrics] == [container]
    for metric in [*found.metrics, *found.container_metrics[0].metrics]:
        assert len(metric.label_values) == len(keys[metric.name]), metric.name
        assert metric.timestamp > 10**18
    assert "container_network_receive_bytes_total" in {one.name for one in found.metrics}


async def test_the_runtime_says_how_it_is_configured(client: Runtime) -> None:
    try:
        answer = await client.runtime.RuntimeConfig(cri.RuntimeConfigRequest())
    except grpc.aio.AioRpcError as error:
        implemented(error)
        raise
    assert answer.linux.cgroup_driver in (cri.CGROUPFS, cri.SYSTEMD)


async def test_what_cannot_be_done_is_refused_clearly(client: Runtime, tmp_path: Path) -> None:
    _, container = await client.pod("sh", "-c", _FOREVER)
    request = cri.CheckpointContainerRequest(container_id=container, location=str(tmp_path / "checkpoint.tar"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.runtime.CheckpointContainer(request)
    assert caught.value.details()
    assert (await client.status(container)).state == cri.CONTAINER_RUNNING
