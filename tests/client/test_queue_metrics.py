"""Work queues say what they do, under upstream's names."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from kubeling.client import queue_metrics
from kubeling.client.queue_metrics import QueueMetrics
from kubeling.client.workqueue import WorkQueue


def series() -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(queue_metrics.page())
        for sample in family.samples
        if sample.labels["name"] == "tested" and sample.labels.get("le", "+Inf") == "+Inf"
    }


def test_times_are_what_the_clock_says() -> None:
    now = 0.0
    queue = QueueMetrics("tested", lambda: now)
    queue.added("a")
    queue.added("b")
    now = 2.0
    queue.taken("a")
    now = 5.0
    found = series()
    assert found["workqueue_adds_total"] == 2
    assert found["workqueue_depth"] == 1
    assert found["workqueue_queue_duration_seconds_sum"] == 2
    assert found["workqueue_unfinished_work_seconds"] == found["workqueue_longest_running_processor_seconds"] == 3
    queue.done("a")
    found = series()
    assert (found["workqueue_work_duration_seconds_sum"], found["workqueue_work_duration_seconds_count"]) == (3, 1)
    assert found["workqueue_unfinished_work_seconds"] == 0


async def test_a_queue_counts_what_is_added_once_and_what_comes_again() -> None:
    queue: WorkQueue[str] = WorkQueue(name="tested", base_delay=0.001)
    for each in ("a", "a", "b"):
        queue.add(each)
    assert (series()["workqueue_adds_total"], series()["workqueue_depth"]) == (2, 2)
    assert await queue.get() == "a"
    queue.add("a")
    queue.done("a")
    assert series()["workqueue_adds_total"] == 3
    assert [await queue.get(), await queue.get()] == ["b", "a"]
    assert series()["workqueue_depth"] == 0
    queue.add_rate_limited("c")
    assert await queue.get() == "c"
    assert series()["workqueue_retries_total"] == 1
    queue.shut_down()
