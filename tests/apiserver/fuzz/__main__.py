"""`python -m tests.apiserver.fuzz --seconds 600 --seed 7`: the long form."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.apiserver import harness
from tests.apiserver.conftest import make_namespace
from tests.apiserver.fuzz.run import run
from tests.apiserver.fuzz.target import Target

_ROUND_SECONDS = 30.0
#: The server may grow by this much after its first round.
_GROWTH_MB = 100.0


def main() -> int:
    """Rounds of half a minute, each with the next seed; after each the server's memory and stored objects are looked at."""
    flags = argparse.ArgumentParser(prog="python -m tests.apiserver.fuzz")
    flags.add_argument("--seconds", type=float, default=600)
    flags.add_argument("--seed", type=int, default=int(time.time()))
    args = flags.parse_args()
    until = time.monotonic() + args.seconds
    seed, first, faults = args.seed, 0.0, 0
    with tempfile.TemporaryDirectory(prefix="kubeling-fuzz-") as name, harness.world(Path(name)) as world:
        server = world.start_server()
        while time.monotonic() < until:
            with server.client() as client:
                namespace = make_namespace(client).name
            report = run(server, namespace, seed, min(_ROUND_SECONDS, until - time.monotonic()))
            target = Target(server)
            wrong = target.in_order()
            memory = target.memory()
            first = first or memory
            print(f"seed {seed}: {dict(sorted(report.statuses.items()))}; {memory:.0f} MB", flush=True)
            for took, what in report.slowest:
                print(f"  {took:.2f} s: {what}", flush=True)
            if memory > first + _GROWTH_MB:
                wrong.append(f"memory grew from {first:.0f} to {memory:.0f} MB")
            for each in (*{fault.what: fault for fault in report.faults}.values(), *wrong):
                print(each, flush=True)
            faults += len(report.faults) + len(wrong)
            with server.client() as client:
                client.delete(f"/api/v1/namespaces/{namespace}")
            seed += 1
        log = server.daemon.log.read_text()
        if "a request failed" in log:
            print(log[-20_000:])
    print(f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
