"""`python -m kubeling.bench`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kubeling.bench import cluster, report


def main() -> int:
    flags = argparse.ArgumentParser(prog="python -m kubeling.bench", description="Measure a whole cluster on this machine.")
    flags.add_argument("--rounds", type=int, default=3, help="cold starts")
    flags.add_argument("--pods", type=int, default=40, help="pods started one after the other")
    flags.add_argument("--idle-seconds", type=float, default=20)
    flags.add_argument("--json", type=Path, default=Path("bench/results/cluster.json"))
    args = flags.parse_args()
    figures = cluster.run(rounds=args.rounds, pods=args.pods, idle_seconds=args.idle_seconds)
    print(report.show(figures))
    report.write(figures, args.json)
    print(f"\nwritten to {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
