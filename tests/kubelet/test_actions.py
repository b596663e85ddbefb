"""What the kubelet decides to do next, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.kubelet.actions import PodActions, compute_pod_actions, hold_back
from kubeling.kubelet.backoff import KeyedBackoff
from kubeling.kubelet.podstate import PodRuntime

from .builders import START, Probes, container, pod, record, runtime, sandbox

NOTHING = Probes()


def decide(made: dict[str, Any], have: PodRuntime, probes: Probes = NOTHING) -> str:
    """The actions as one line, in the order in which they are carried out."""
    actions: PodActions = compute_pod_actions(made, have, probes)
    words = []
    if actions.kill_pod:
        words.append("kill-pod")
    words += [f"kill {each.record.name}" for each in actions.kill]
    if actions.create_sandbox:
        words.append(f"sandbox {actions.attempt}")
    words += [f"start {each.container['name']}" for each in actions.start]
    return ", ".join(words) or "nothing"


SIDE = container("side", restartPolicy="Always")
INIT = container("init")


@pytest.mark.parametrize(
    ("made", "have", "wanted"),
    [
        pytest.param(pod(), runtime(boxes=()), "sandbox 0, start web", id="a new pod"),
        pytest.param(pod(), runtime(record()), "nothing", id="it runs"),
        pytest.param(pod(), runtime(), "start web", id="the sandbox is there, the container is not"),
        pytest.param(pod(container("a"), container("b")), runtime(record("a")), "start b", id="one of two is missing"),
        pytest.param(
            pod(), runtime(record(), boxes=(sandbox(ready=False),)), "kill-pod, sandbox 1, start web", id="the sandbox died"
        ),
        pytest.param(pod(), runtime(boxes=(sandbox(ips=()),)), "kill-pod, sandbox 1, start web", id="the sandbox has no address"),
        pytest.param(
            pod(hostNetwork=True), runtime(record(), boxes=(sandbox(ips=(), host=True),)), "nothing", id="host network needs none"
        ),
        pytest.param(pod(), runtime(record(state="exited", exit_code=1)), "start web", id="Always restarts a failure"),
        pytest.param(pod(), runtime(record(state="exited")), "start web", id="Always restarts a success"),
        pytest.param(
            pod(restartPolicy="OnFailure"),
            runtime(record(state="exited", exit_code=1)),
            "start web",
            id="OnFailure restarts a failure",
        ),
        pytest.param(
            pod(restartPolicy="OnFailure"), runtime(record(state="exited")), "kill-pod", id="OnFailure is content with a success"
        ),
        pytest.param(
            pod(restartPolicy="Never"), runtime(record(state="exited", exit_code=1)), "kill-pod", id="Never restarts nothing"
        ),
        pytest.param(
            pod(container("a"), container("b"), restartPolicy="Never"),
            runtime(record("a", "exited"), record("b")),
            "nothing",
            id="one of two is done, the other goes on",
        ),
        pytest.param(
            pod(restartPolicy="Never"),
            runtime(record(state="exited"), boxes=(sandbox(ready=False),)),
            "kill-pod",
            id="Never: a lost sandbox is not made again",
        ),
        pytest.param(
            pod(container("a"), container("b"), restartPolicy="OnFailure"),
            runtime(record("a", "exited"), record("b"), boxes=(sandbox(ready=False),)),
            "kill-pod, sandbox 1, start b",
            id="OnFailure: what succeeded stays done in a new sandbox",
        ),
        pytest.param(pod(container(image="img:2")), runtime(record()), "kill web, start web", id="another image"),
        pytest.param(pod(), runtime(record(state="unknown")), "kill web, start web", id="an unknown state"),
        pytest.param(pod(), runtime(record(state="created")), "start web", id="created and never started"),
        # -- init containers
        pytest.param(pod(init=[INIT]), runtime(boxes=()), "sandbox 0, start init", id="init first"),
        pytest.param(pod(init=[INIT]), runtime(record("init")), "nothing", id="init runs"),
        pytest.param(pod(init=[INIT]), runtime(record("init", "exited")), "start web", id="init is done"),
        pytest.param(pod(init=[INIT]), runtime(record("init", "exited", exit_code=1)), "start init", id="init failed, again"),
        pytest.param(
            pod(init=[INIT], restartPolicy="Never"),
            runtime(record("init", "exited", exit_code=1)),
            "kill-pod",
            id="init failed for good",
        ),
        pytest.param(
            pod(init=[INIT]),
            runtime(record("init", "exited"), boxes=(sandbox(1), sandbox(ready=False))),
            "start init",
            id="a new sandbox initialises anew",
        ),
        pytest.param(pod(init=[INIT]), runtime(record()), "nothing", id="an init container that was removed is not run again"),
        # -- sidecars
        pytest.param(
            pod(init=[SIDE, INIT]), runtime(record("side")), "start init", id="a sidecar that has started lets the next go"
        ),
        pytest.param(
            pod(init=[SIDE, INIT]), runtime(record("side"), record("init", "exited")), "start web", id="then the containers"
        ),
        pytest.param(pod(init=[SIDE]), runtime(record(), record("side", "exited")), "start side", id="a sidecar is restarted"),
        pytest.param(
            pod(init=[SIDE], restartPolicy="Never"),
            runtime(record(state="exited"), record("side")),
            "kill-pod",
            id="a sidecar does not keep a pod that is done",
        ),
        pytest.param(
            pod(init=[SIDE], restartPolicy="Never"),
            runtime(record(), record("side", "exited", exit_code=1)),
            "start side",
            id="a sidecar restarts whatever the pod's policy",
        ),
    ],
)
def test_decides(made: dict[str, Any], have: PodRuntime, wanted: str) -> None:
    assert decide(made, have) == wanted


def test_a_failed_liveness_probe_kills_and_the_next_round_starts() -> None:
    assert decide(pod(), runtime(record()), Probes(failed={"web-0": "liveness"})) == "kill web"
    assert decide(pod(), runtime(record(state="exited", exit_code=137))) == "start web"


def test_a_sidecar_whose_startup_probe_has_not_passed_holds_up_the_next() -> None:
    probes = Probes(unstarted={"side-0"})
    assert decide(pod(init=[SIDE, INIT]), runtime(record("side")), probes) == "nothing"


def test_a_second_ready_sandbox_is_one_too_many() -> None:
    assert decide(pod(), runtime(record(), boxes=(sandbox(1), sandbox(0)))).startswith("kill-pod, sandbox 2")


def test_an_ephemeral_container_starts_beside_the_others_and_once() -> None:
    made = pod(ephemeralContainers=[container("debug")])
    assert decide(made, runtime(record())) == "start debug"
    assert decide(made, runtime(record(), record("debug", "exited", exit_code=1))) == "nothing"


class TestCrashBackoff:
    """10 s doubled up to 5 min, counted from the end of the last run; forgotten after 10 quiet minutes."""

    def setup_method(self) -> None:
        self.now = START / 1e9
        self.backoff = KeyedBackoff(lambda: self.now)

    def crash(self, attempt: int) -> float:
        """The container crashes now; how long its next start waits. The waiting is done, and the start too."""
        ended = int(self.now - START / 1e9)
        last = record(state="exited", exit_code=1, attempt=attempt, finished=ended)
        starts = compute_pod_actions(pod(), runtime(last), NOTHING).start
        ready, waiting = hold_back(starts, self.backoff, lambda each: str(each["name"]))
        if ready:
            return 0.0
        waited = waiting[0].remaining
        self.now += waited
        ready, _ = hold_back(starts, self.backoff, lambda each: str(each["name"]))
        assert ready
        return waited

    def test_grows_to_five_minutes(self) -> None:
        assert [round(self.crash(attempt)) for attempt in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]

    def test_begins_anew_after_ten_quiet_minutes(self) -> None:
        for attempt in range(4):
            self.crash(attempt)
        self.now += 601
        assert self.crash(4) == 0

    def test_survives_a_restart_of_the_kubelet(self) -> None:
        for attempt in range(4):
            self.crash(attempt)
        self.backoff = KeyedBackoff(lambda: self.now)
        assert round(self.crash(4)) == 80

    def test_a_clock_that_was_set_back_costs_no_more_than_the_delay(self) -> None:
        self.crash(0)
        self.backoff.next("web", self.now)
        self.now -= 3600
        assert self.backoff.remaining("web", self.now + 3600) <= 20

    def test_a_clock_that_was_set_back_does_not_begin_the_delay_anew_with_each_look(self) -> None:
        elapsed = 1000.0
        backoff = KeyedBackoff(lambda: self.now, elapsed=lambda: elapsed)
        failed_at = self.now
        backoff.next("web", failed_at)
        assert backoff.remaining("web", failed_at) == 10
        self.now -= 3600
        elapsed += 6
        assert backoff.remaining("web", failed_at) == 4
        elapsed += 4
        assert backoff.remaining("web", failed_at) == 0
