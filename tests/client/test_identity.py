"""A Lease's holder that was killed is known to be dead by those who can see its process."""

from __future__ import annotations

import subprocess
import sys

from kubeling.client import identity

CODE = "from kubeling.client import identity; import sys; print(identity.make(), flush=True); sys.stdin.read()"


def test_the_living_are_not_dead_and_the_dead_are() -> None:
    assert not identity.is_known_dead(identity.make())
    child = subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        holder = child.stdout.readline().strip()
        assert not identity.is_known_dead(holder)
    finally:
        child.kill()
    child.wait()
    child.communicate()
    assert identity.is_known_dead(holder)


def test_of_others_nothing_is_known() -> None:
    mine = identity.make()
    host, _, rest = mine.rpartition("_")
    boot, space, pid, _started = rest.split(".")
    assert identity.is_known_dead(f"{host}_{boot}.{space}.{pid}.1"), "the PID was given to another process"
    assert not identity.is_known_dead(f"{host}_{boot}.1.{pid}.1"), "another PID namespace"
    assert not identity.is_known_dead(f"{host}_0000.{space}.{pid}.1"), "another boot, or another machine"
    assert not identity.is_known_dead("host_5c3f3c9e-0000-4000-8000-000000000000")
    assert not identity.is_known_dead("")
