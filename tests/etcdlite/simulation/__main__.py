"""Run schedules: ``python -m tests.etcdlite.simulation --seeds 5000 [--first N] [--jobs N]``, or one: ``--seed N [--trace]``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time

from .world import World


def run(seed: int) -> tuple[int, str, int, int, int]:
    """The seed, what was violated (or nothing), and how many steps, writes and reads there were."""
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        return seed, f"{type(error).__name__}: {error}", world.steps, world.done, world.reads_done
    return seed, "", world.steps, world.done, world.reads_done


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.etcdlite.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--trace", action="store_true", help="tell what happens")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.seed is not None:
        World(arguments.seed, arguments.trace).run()
        print(f"seed {arguments.seed}: nothing was violated")
        return 0
    began = time.monotonic()
    failed = steps = writes = reads = 0
    with multiprocessing.Pool(arguments.jobs) as pool:
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        for seed, violated, stepped, written, read in pool.imap_unordered(run, seeds, 20):
            steps, writes, reads = steps + stepped, writes + written, reads + read
            if violated:
                failed += 1
                print(f"seed {seed}: {violated}", flush=True)
    seconds = time.monotonic() - began
    print(
        f"{arguments.seeds} schedules, {steps} steps, {writes} acknowledged writes, {reads} reads in {seconds:.1f} s "
        f"({60 * arguments.seeds / seconds:.0f} a minute), {failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
