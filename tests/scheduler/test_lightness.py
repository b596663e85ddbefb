"""What a small cluster does not pay for."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from kubeling.scheduler import __main__, scheduler
from kubeling.scheduler.algorithm import decide
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.config import Profile, build
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.nodeinfo import PodInfo

cache, framework = Cache(), build(Profile(), Handle())
for number in range(20):
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    cache.set_node({"metadata": {"name": f"n{number}", "labels": {}}, "spec": {}, "status": {"allocatable": amounts}})
pod = {"metadata": {"name": "p", "namespace": "default", "uid": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
decide(framework, cache.cycle(PodInfo(pod)), rand=lambda: 0.0)
print(sorted({"numpy", "yaml", "pydantic", "fastapi", "grpc"} & set(sys.modules)))
"""


def test_a_small_cluster_loads_no_arrays() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
