"""The fixtures of the kubelet's tests: pods on a real node."""

from tests.kubelet.conftest import pods, runtime

__all__ = ["pods", "runtime"]
