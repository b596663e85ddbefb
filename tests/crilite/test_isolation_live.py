"""What holds a container in, beyond namespaces: tried from the inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, eventually

pytestmark = [pytest.mark.live, pytest.mark.root]

_SPY = """
import os, time
seen = set()
print("ready", flush=True)
end = time.monotonic() + 4
while time.monotonic() < end:
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) not in (1, os.getpid()):
            try:
                name = os.readlink(f"/proc/{pid}/exe")
                seen.add(name)
                fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
                os.lseek(fd, 0, 0)
                seen.add("opened " + name)
                os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
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
