"""The bench on which end-to-end tests work: a namespace of the shared cluster."""

from __future__ import annotations

import pytest

from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.tests.e2e.kubectl import Kubectl
from kubeling.tests.e2e.support import Bench


@pytest.fixture
def bench(kubeling_cluster: ClusterHandle, kubeling_namespace: str) -> Bench:
    return Bench(kubeling_cluster, kubeling_namespace)


@pytest.fixture
def kubectl(binary: str, bench: Bench) -> Kubectl:
    """For tests that `every_kubectl` marks."""
    return Kubectl(binary, bench)
