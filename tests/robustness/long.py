"""The long form: scenario after scenario, each in a process of its own, until the time is over. What failed is kept, what passed is not."""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from . import sandbox
from .scenarios import SCENARIOS

#: Beyond its traffic a run may take so long to start, recover and be judged.
_EXTRA_SECONDS = 240.0
_OUTCOMES = {sandbox.PASSED: "passed", sandbox.VIOLATED: "VIOLATED", sandbox.SKIPPED: "skipped"}


def run_all(args: argparse.Namespace) -> int:
    """The exit code is the worst of all runs'."""
    seed = args.seed or str(random.SystemRandom().randrange(1 << 32))
    directory = Path(args.directory or tempfile.mkdtemp(prefix="robustness-")).absolute()
    names = args.only.split(",") if args.only else sorted(set(SCENARIOS) - {"calm"})
    if unknown := set(names) - set(SCENARIOS):
        print(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(sorted(SCENARIOS))}")
        return sandbox.BROKEN
    print(f"seed {seed}, {args.seconds:.0f} s on {args.store}; failed runs are kept in {directory}", flush=True)
    rng = random.Random(seed)
    end = time.monotonic() + args.seconds
    outcomes: Counter[str] = Counter()
    worst, number = sandbox.PASSED, 0
    while time.monotonic() < end:
        for name in rng.sample(names, len(names)):
            if time.monotonic() >= end:
                break
            number += 1
            code = _one(name, args.store, f"{seed}/{number}", args.each, directory / f"{number:04}-{name}")
            outcomes[_OUTCOMES.get(code, "broken")] += 1
            if code not in (sandbox.PASSED, sandbox.SKIPPED):
                worst = max(worst, code if code in (sandbox.VIOLATED, sandbox.BROKEN) else sandbox.BROKEN)
    print(f"seed {seed}: " + ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items())))
    return worst


def _one(name: str, store: str, seed: str, seconds: float, directory: Path) -> int:
    command = [sys.executable, "-m", "tests.robustness", "run", name, "--store", store, "--seed", seed, "--seconds", str(seconds)]
    try:
        code = subprocess.run([*command, "--directory", str(directory)], check=False, timeout=seconds + _EXTRA_SECONDS).returncode
    except subprocess.TimeoutExpired:
        print(f"BROKEN (seed {seed}): {name} did not end; what there is: {directory}", flush=True)
        return sandbox.BROKEN
    if code in (sandbox.PASSED, sandbox.SKIPPED) and not (directory / "history.jsonl").exists():
        shutil.rmtree(directory, ignore_errors=True)
    return code
