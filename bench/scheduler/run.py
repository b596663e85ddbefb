"""`python -m kubeling.bench scheduler`: the table of upstream's workloads, ours beside its thresholds."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubeling.bench.scheduler import workloads
from kubeling.bench.scheduler.algorithm import World
from kubeling.bench.scheduler.workloads import Workload

#: With --quick, sizes are divided by this.
QUICK = 10


def add_flags(flags: argparse.ArgumentParser) -> None:
    flags.add_argument("--quick", action="store_true", help="a tenth of the nodes and pods")
    flags.add_argument("--only", default="", help="workloads whose name contains this")
    flags.add_argument("--seconds", type=float, default=10, help="a measurement of the algorithm is cut short after this")
    flags.add_argument("--plain", action="store_true", help="measure the per-node form too (slow)")
    flags.add_argument("--part", choices=("algorithm", "apiserver", "all"), default="all")
    flags.add_argument("--json", type=Path, default=Path("bench/results/scheduler.json"))


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    chosen = [each.shrunk(QUICK) if args.quick else each for each in workloads.WORKLOADS if args.only in each.name]
    rows: list[dict[str, Any]] = []
    print(f"{'workload':<50}{'upstream':>10}{'decisions/s':>13}{'of CPU':>10}{'times':>8}{'pods/s':>9}", flush=True)
    for workload in chosen:
        row = _measure(workload, args)
        rows.append(row)
        print(_line(row), flush=True)
    document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "quick": args.quick, "workloads": rows}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {args.json}")
    return 0


def _measure(workload: Workload, args: argparse.Namespace) -> dict[str, Any]:
    row: dict[str, Any] = {"name": workload.name, "size": workload.size, "threshold": workload.threshold}
    if args.part in ("algorithm", "all"):
        result = World().run(workload, args.seconds)
        row |= {
            "decisions_per_second": round(result.rate),
            "decisions_per_cpu_second": round(result.cpu_rate),
            "decisions": result.decisions,
            "unscheduled": result.unscheduled,
            "slowest_ms": round(result.slowest * 1000, 1),
        }
        if args.plain:
            row["plain_decisions_per_second"] = round(World(vector=False).run(workload, args.seconds).rate)
    if args.part in ("apiserver", "all"):
        from kubeling.bench.scheduler import live

        row |= live.run(workload)
    return row


def _line(row: dict[str, Any]) -> str:
    rate, cpu = row.get("decisions_per_second"), row.get("decisions_per_cpu_second")
    times = f"{cpu / row['threshold']:.1f}" if cpu and row["threshold"] else ""
    pods = row.get("pods_per_second")
    cells = (f"{row['threshold'] or '':>10}", f"{rate or '':>13}", f"{cpu or '':>10}", f"{times:>8}", f"{pods or '':>9}")
    return f"{row['name']:<50}" + "".join(cells)
