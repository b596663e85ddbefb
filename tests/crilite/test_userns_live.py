"""Pods with user namespaces of their own: root inside, nobody outside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, eventually

pytestmark = [pytest.mark.live, pytest.mark.root]

BASE, SIZE = 1_000_000, 65536


def ids(base: int = BASE) -> list[cri.IDMapping]:
    return [cri.IDMapping(host_id=base, container_id=0, length=SIZE)]


def options(base: int = BASE, pid: int = cri.CONTAINER, **values: Any) -> cri.NamespaceOption:
    users = cri.UserNamespace(mode=cri.POD, uids=ids(base), gids=ids(base))
    return cri.NamespaceOption(pid=pid, userns_options=users, **values)


def secure(client: Cri, base: int = BASE, **values: Any) -> dict[str, Any]:
    pod = client.pod_config(options(base))
    linux = cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(**values))
    linux.security_context.namespace_options.CopyFrom(pod.linux.security_context.namespace_options)
    return {"pod": pod, "linux": linux}


@pytest.mark.parametrize("kind", ["image", "host"])
async def test_root_inside_is_nobody_outside(client: Cri, node: Node, box: str, kind: str) -> None:
    image = box if kind == "image" else "kubeling.local/host"
    sandbox, container = await client.pod("sleep", "1000", image=image, **secure(client))
    pid = await client.pid(container)
    info = os.stat(f"/proc/{pid}")
    assert (info.st_uid, info.st_gid) == (BASE, BASE)
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", str(BASE), str(SIZE)]
    # Root of its own files.
    script = "id -u; id -g; touch /made && stat -c '%u %g' /made; chown 1000:2000 /made && stat -c '%u %g' /made; stat -c %u /bin /dev /tmp; echo out > /dev/null && echo null"
    code, said, problem = await client.exec(container, "sh", "-c", script)
    assert (code, problem) == (0, "")
    assert said == "0\n0\n0 0\n1000 2000\n0\n0\n0\nnull\n"
    status = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))).status
    assert status.linux.namespaces.options.userns_options.uids[0].host_id == BASE
    assert status.network.ip.startswith("10.244.")
    assert (await client.status(container)).user.linux.uid == 0
    if kind == "image":
        # On disk it is as it would be without: another pod, with other ids or none, finds it so.
        [made] = (node.root / "containers" / container / "upper").glob("made")
        assert (made.stat().st_uid, made.stat().st_gid) == (1000, 2000)


async def test_other_users_and_the_network(client: Cri, box: str, node: Node) -> None:
    script = "id; cat /data/file; echo x > /dev/stdout; hostname"
    values = secure(client, run_as_username="web", no_new_privs=True)
    values["linux"].security_context.seccomp.profile_type = cri.SecurityProfile.RuntimeDefault
    text = await client.output("sh", "-c", script, image=box, **values)
    assert text == f"uid=1000(web) gid=2000 groups=2000\ncontent\nx\n{values['pod'].hostname}\n"
    # Capabilities count inside only.
    values = secure(client, capabilities=cri.Capability(add_capabilities=["SYS_ADMIN", "SYS_TIME", "NET_ADMIN"]))
    script = """
    mkdir /m && mount -t tmpfs none /m && echo mounted
    (echo 1 > /proc/sys/kernel/panic_on_oops) 2>/dev/null && echo changed
    echo 1 > /proc/sys/net/ipv4/ip_forward && echo forwards
    cat /proc/1/root/etc/passwd | head -1 > /dev/null 2>&1
    """
    assert await client.output("sh", "-c", script, image=box, **values) == "mounted\nforwards\n"
    # Two pods, two ranges: neither can touch what the other has.
    first = await client.pod("sleep", "1000", image=box, **secure(client, BASE))
    second = await client.pod("sleep", "1000", image=box, **secure(client, BASE + SIZE))
    assert os.stat(f"/proc/{await client.pid(first[1])}").st_uid == BASE
    assert os.stat(f"/proc/{await client.pid(second[1])}").st_uid == BASE + SIZE


async def test_volumes_keep_their_owners(client: Cri, box: str, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "mine").write_text("secret\n")
    (tmp_path / "volume" / "mine").chmod(0o600)
    mapped = cri.Mount(container_path="/mapped", host_path=str(tmp_path / "volume"), uidMappings=ids(), gidMappings=ids())
    bare = cri.Mount(container_path="/bare", host_path=str(tmp_path / "volume"))
    script = "cat /mapped/mine; touch /mapped/new; stat -c %u /bare/mine; cat /bare/mine 2>/dev/null || echo closed"
    assert (
        await client.output("sh", "-c", script, image=box, mounts=[mapped, bare], **secure(client)) == "secret\n65534\nclosed\n"
    )
    assert (tmp_path / "volume" / "new").stat().st_uid == 0
    other = cri.Mount(container_path="/x", host_path=str(tmp_path), uidMappings=ids(BASE + 1), gidMappings=ids())
    with pytest.raises(grpc.aio.AioRpcError, match="its ids can only be mapped as those of the pod are"):
        await client.pod("true", image=box, mounts=[other], **secure(client))


async def test_what_is_shared_and_what_cannot_be(client: Cri, box: str, node: Node) -> None:
    pod = client.pod_config(options(pid=cri.POD))
    linux = cri.LinuxContainerConfig()
    linux.security_context.namespace_options.CopyFrom(pod.linux.security_context.namespace_options)
    sandbox, config = await client.sandbox(pod)
    for name in ("one", "two"):
        container = await client.create(sandbox, config, "sleep", "1000", image=box, name=name, linux=linux)
        await client.start(container)
    assert (await client.exec(container, "sh", "-c", "ls -d /proc/[0-9]* | tail -n 99"))[1].count("/proc/") >= 3
    for wrong in (options(network=cri.NODE), options(base=0)):
        with pytest.raises(grpc.aio.AioRpcError):
            await client.sandbox(client.pod_config(wrong))
    await client.clean()
    assert not list(node.state.joinpath("sandboxes").iterdir())
    status = await client.runtime.Status(cri.StatusRequest())
    assert {one.name: one.features.user_namespaces for one in status.runtime_handlers}["native"]


async def test_where_ids_cannot_be_mapped_files_are_given_away(client: Cri, node: Node, box: str, tmp_path: Path) -> None:
    from kubeling.crilite import userns

    for name, owner in (("a", (0, 0)), ("b", (1000, 2000))):
        (tmp_path / name).write_text("")
        os.chown(tmp_path / name, *owner)
        (tmp_path / name).chmod(0o4755)
    userns.give_away(str(tmp_path), options())
    found = {
        path.name: (path.stat().st_uid - BASE, path.stat().st_gid - BASE, path.stat().st_mode & 0o7777)
        for path in tmp_path.iterdir()
    }
    assert found == {"a": (0, 0, 0o4755), "b": (1000, 2000, 0o4755)}


async def test_a_terminal_and_what_a_privileged_one_can_do(client: Cri, box: str) -> None:
    _, container = await client.pod("sh", "-c", "test -t 0 && echo terminal; sleep 1000", image=box, tty=True, **secure(client))
    path = (await client.status(container)).log_path
    await eventually(lambda: os.path.exists(path) and "terminal" in client.text(path))
    values = secure(client, privileged=True)
    values["pod"].linux.security_context.privileged = True
    script = "mkdir /m && mount -t tmpfs none /m && echo mounted; (echo 1 > /proc/sys/kernel/panic_on_oops) 2>/dev/null && echo changed; cat /dev/loop-control 2>/dev/null && echo read; echo end"
    assert await client.output("sh", "-c", script, image=box, **values) == "mounted\nend\n"
