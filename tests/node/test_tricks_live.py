"""Symbolic links where the kubelet and the runtime work with what a container can write to: none leads out of the volume or the container."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.pods import container_status
from tests.kubelet.conftest import FOREVER, Pods, shell, state, waiting

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]

NODE = "worker-1"


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A folder of the node that no pod was given, and a file in it that must stay as it is."""
    folder = tmp_path / "node"
    folder.mkdir()
    (folder / "secret").write_text("of the node")
    (folder / "secret").chmod(0o600)
    return folder


async def test_a_sub_path_does_not_lead_out_of_its_volume(pods: Pods, marked: Path) -> None:
    """Links by an absolute and a relative path, and one that is swapped with a folder while containers start."""
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volumes = [{"name": "v", "emptyDir": {}}]
    links = f"ln -s {marked} /v/absolute; ln -s ../../../../../../../../../..{marked} /v/relative"
    await pods.run(
        "links",
        shell("cat /a/secret; " + FOREVER, "a", volumeMounts=[{"name": "v", "mountPath": "/a", "subPath": "absolute"}]),
        shell("cat /b/secret; " + FOREVER, "b", volumeMounts=[{"name": "v", "mountPath": "/b", "subPath": "relative"}]),
        initContainers=[shell(links, "i", **mount)],
        volumes=volumes,
        nodeName=NODE,
    )
    await pods.until("links", waiting("CreateContainerConfigError", "a"))
    await pods.until("links", waiting("CreateContainerConfigError", "b"))
    swap = f"mkdir /v/p; ln -s {marked} /v/link; while true; do mv -T /v/p /v/x; mv -T /v/link /v/p; mv -T /v/p /v/link; mv -T /v/x /v/p; done"
    victim = shell(
        "ls /p; cat /p/secret && echo REACHED; exit 1", "c", volumeMounts=[{"name": "v", "mountPath": "/p", "subPath": "p"}]
    )
    await pods.run("race", victim, shell(swap, "swap", **mount), volumes=volumes, nodeName=NODE, restartPolicy="Always")
    await pods.until("race", lambda pod: bool(container_status(pod, "c")), 30)
    await asyncio.sleep(2)  # Not for anything to happen: for many chances.
    for previous in (False, True):
        with contextlib.suppress(ApiError):  # There may be no container that has run.
            assert "REACHED" not in await pods.log("race", container="c", previous=previous)
    assert (marked / "secret").read_text() == "of the node"


async def test_what_a_volume_links_to_is_not_touched_at_the_end(pods: Pods, marked: Path) -> None:
    """Neither the change of groups for fsGroup nor the removal of the volume follows a link."""
    script = f"ln -s {marked} /v/folder; ln -s {marked}/secret /v/file; mkdir -p /v/deep/er; ln -s {marked} /v/deep/er/link"
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    await pods.run(
        "linked",
        shell("exit 0", **mount),
        initContainers=[shell(script, "i", **mount)],
        volumes=[{"name": "v", "emptyDir": {}}],
        securityContext={"fsGroup": 4321},
        nodeName=NODE,
        restartPolicy="Never",
    )
    await pods.phase("linked", "Succeeded")
    await pods.delete("linked")
    await pods.gone("linked")
    info = (marked / "secret").stat()
    assert (info.st_gid, info.st_mode & 0o7777, (marked / "secret").read_text()) == (0, 0o600, "of the node")


async def test_a_log_or_a_last_word_that_is_a_link_is_not_read(pods: Pods, marked: Path) -> None:
    """A pod that was given the kubelet's folder for logs may destroy them, and no more: the node's files are not told by `kubectl logs`."""
    await pods.run("talker", shell("echo words; " + FOREVER), nodeName=NODE)
    pod = await pods.ready("talker")
    assert await pods.logged("talker", "words")
    folder = f"{pods.namespace}_talker_{pod['metadata']['uid']}/c"
    script = f"rm /logs/{folder}/0.log; ln -s {marked}/secret /logs/{folder}/0.log"
    logs = {"name": "v", "hostPath": {"path": str(pods.cluster.root / "nodes" / NODE / "kubelet" / "log" / "pods")}}
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/logs"}]}
    await pods.run("forger", shell(script, **mount), volumes=[logs], nodeName=NODE, restartPolicy="Never")
    await pods.phase("forger", "Succeeded")
    with pytest.raises(ApiError, match="no such file"):
        await pods.log("talker")


async def test_a_mount_point_that_the_image_or_a_volume_links_elsewhere_stays_inside(pods: Pods, marked: Path) -> None:
    """The termination message, and a mount below a volume, by a path that another container has made a link of."""
    script = f"ln -s {marked} /v/sub; ln -s {marked}/secret /v/words"
    await pods.run(
        "points",
        shell(
            "echo mine > /v/words; touch /v/sub/touched; ls -l /v; exit 3",
            volumeMounts=[{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/v/sub"}],
            terminationMessagePath="/v/words",
        ),
        initContainers=[shell(script, "i", volumeMounts=[{"name": "v", "mountPath": "/v"}])],
        volumes=[{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
        nodeName=NODE,
        restartPolicy="Never",
    )
    pod = await pods.until("points", lambda pod: "terminated" in state(pod) or "waiting" in state(pod), 30)
    assert sorted(each.name for each in marked.iterdir()) == ["secret"]
    assert (marked / "secret").read_text() == "of the node"
    assert "of the node" not in str(pod["status"])


@pytest.mark.parametrize(
    "path", ["/proc/self/fd/3", "/proc/self/fd/4", "/proc/self/fd/5", "/proc/self/fd/6", "/proc/self/fd/7", "/proc/self/fd/9"]
)
async def test_a_working_directory_by_a_descriptor_does_not_lead_out(pods: Pods, path: str) -> None:
    await pods.run("cwd", shell("cat ../../../../../../etc/hostname; pwd", workingDir=path), nodeName=NODE, restartPolicy="Never")
    pod = await pods.until("cwd", lambda pod: "terminated" in state(pod) or "waiting" in state(pod), 30)
    assert state(pod).get("terminated", {}).get("reason", "StartError") in ("StartError", "ContainerCannotRun")
