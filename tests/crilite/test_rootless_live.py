"""A node in a user namespace, as `kubeling up` makes it for an ordinary user."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, eventually

pytestmark = [pytest.mark.live, pytest.mark.root]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("namespaces are tried as root")
    made = Node(tmp_path_factory.mktemp("node"), f"user-{worker_id}-{os.getpid()}-{next(_numbers)}", userns=True)
    made.start()
    try:
        yield made
    finally:
        made.close()


async def test_a_pod_without_the_right_to_anything(client: Cri) -> None:
    script = "id -u; ip -o -4 addr show eth0 | wc -l; touch /usr/x /etc/x && echo wrote; rm -r /etc/alternatives && mkdir /etc/alternatives && ls /etc/alternatives | wc -l; cat /proc/1/comm"
    _, container = await client.pod("sh", "-c", script + "; sleep 1000")
    code, text, err = await client.exec(container, "sh", "-c", script.replace("/etc/alternatives", "/etc/init.d"))
    assert not err
    assert (code, text) == (0, "0\n1\nwrote\n0\nsh\n")
    status = await client.status(container)
    await eventually(lambda: client.text(status.log_path) == "0\n1\nwrote\n0\nsh\n")
    sandbox, pod = await client.sandbox(client.pod_config(cri.NamespaceOption(network=cri.NODE, pid=cri.POD)))
    other = await client.create(sandbox, pod, "sleep", "1000", name="other")
    await client.start(other)
    assert (await client.exec(other, "true"))[0] == 0
