"""One fuzz run: several connections, each with generators of its own, for a time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

from tests.apiserver.fuzz.hostile import Case, Hostile
from tests.apiserver.fuzz.schema import Made, Schemas
from tests.apiserver.fuzz.target import Report, Target
from tests.apiserver.harness import Server
from tests.apiserver.plain import Plain, tls_of

_CONNECTIONS = 6
_MAX_FAULTS = 300


def run(server: Server, namespace: str, seed: int, seconds: float, cases: int = 0) -> Report:
    """Fuzz for `seconds`, or until each connection has sent `cases`."""
    context = tls_of(server)
    with Plain(server, context) as client:
        schemas = Schemas(client)
    report = Report()
    target = Target(server, context)
    for case in Made(seed, namespace, schemas).first():
        target.send(case, "first")
    target.close()
    report.add(target.report)
    until = time.monotonic() + seconds

    def one(which: int) -> Report:
        target = Target(server, context)
        number = seed * 1000 + which
        source, hostile, made = Random(number), Hostile(number, namespace), Made(number, namespace, schemas)
        count = 0
        while time.monotonic() < until and (not cases or count < cases) and len(target.report.faults) < _MAX_FAULTS:
            count += 1
            case: Case = hostile.next() if source.random() < 0.6 else made.next()
            target.send(case, f"{number}:{count}")
        target.close()
        return target.report

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for each in pool.map(one, range(_CONNECTIONS)):
            report.add(each)
    return report
