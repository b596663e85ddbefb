"""The node agent: makes the pods that the API assigns to this node exist in the container runtime, and reports what became of them.

The decisions are plain functions (:mod:`actions`, :mod:`podstatus`, :mod:`probing`, :mod:`env`, :mod:`resources`, :mod:`nodestatus` …); a worker per
pod (:mod:`worker`) reads the runtime, asks them what to do, and does it over CRI. All state that must outlive this process is in the runtime's
labels and annotations and under the root directory, so a kubelet that was killed picks up where it was.
"""
