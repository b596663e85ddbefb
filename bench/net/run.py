"""`python -m kubeling.bench net`: needs root, nft and ip; everything happens in a network namespace of its own, which ends with the run."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kubeling.bench import report
from kubeling.bench.report import Figure

_INSIDE = "KUBELING_BENCH_NET_INSIDE"


def add_flags(flags: argparse.ArgumentParser) -> None:
    flags.add_argument("--services", default="10,1000,10000", help="how many Services there are, one run for each number")
    flags.add_argument("--policies", default="100,1000,5000", help="how many NetworkPolicies there are, one run for each number")
    flags.add_argument("--changes", type=int, default=30, help="changes of endpoints that are timed")
    flags.add_argument("--parts", default="services,policies,dns", help="which of: services, policies, dns")
    flags.add_argument("--json", type=Path, default=Path("bench/results/net.json"))


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    if os.environ.get(_INSIDE) != "1":
        command = ["unshare", "--net", sys.executable, "-P", "-m", "kubeling.bench", "net", *sys.argv[2:]]
        return subprocess.run(command, env={**os.environ, _INSIDE: "1"}, check=False).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    parts = args.parts.split(",")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="kubeling-bench-net-") as folder:
        if "services" in parts:
            from kubeling.bench.net import services

            for number, count in enumerate(int(each) for each in args.services.split(",")):
                figures += services.measure(Path(folder) / f"services{number}", count, args.changes)
        if "policies" in parts:
            from kubeling.bench.net import policies

            for number, count in enumerate(int(each) for each in args.policies.split(",")):
                figures += policies.measure(Path(folder) / f"policies{number}", count, args.changes)
        if "dns" in parts:
            from kubeling.bench.net import names

            figures += names.measure(Path(folder) / "dns")
    print(report.show(figures))
    report.write(figures, args.json)
    print(f"\nwritten to {args.json}")
    return 0
