"""One pod, from its admission to its end: a loop that looks, decides and acts, one step at a time.

A worker is in one of three states, as upstream's pod workers: it *syncs* the pod towards its spec; it *terminates* it (deleted, evicted, past its
deadline, or all of its containers are done), which cannot be undone; or the pod is *over* and only its last status is kept until the API lets it go.
Whatever happens (a change in the API, an event of the runtime, a probe's verdict, a timer) only wakes the worker; it then reads everything anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from kubeling.api.meta import Object, is_deleting, metadata_of, name_of, namespace_of, spec_of, status_of, uid_of
from kubeling.api.pods import init_containers_of, is_terminal
from kubeling.api.times import format_duration, parse_time
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import run_until
from kubeling.kubelet import dnsconfig
from kubeling.kubelet.actions import PodActions, Start, compute_pod_actions, hold_back
from kubeling.kubelet.context import Context
from kubeling.kubelet.convert import sandbox_config
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.granting import grant_all
from kubeling.kubelet.podfiles import PodFiles
from kubeling.kubelet.podstate import ContainerRecord, PodRuntime
from kubeling.kubelet.podstatus import View, generate_status, is_gone_quiet, pod_ips, rejected_status
from kubeling.kubelet.podview import concerns_us, container_spec, every_container
from kubeling.kubelet.probers import PodProbes, Running
from kubeling.kubelet.resizing import Resizer
from kubeling.kubelet.starting import Image, Place, Starter, StartProblem, pod_label
from kubeling.kubelet.stopping import Stopper, grace_of, remove_everything
from kubeling.kubelet.volumes import VolumeProblem, references_of
from kubeling.kubelet.waiting import Interrupted, beside, unless

log = get_logger("kubelet.worker")
T = TypeVar("T")

#: The first status of a new pod waits this long for a better one: most pods are running by then, and one write does for both.
_FIRST_STATUS_WAITS = 0.1


@dataclass(frozen=True, slots=True)
class Ending:
    """Why and how a pod is being ended. `verdict` is the reason and message of its status; `own_fault`: the pod's own limits, not the node's need."""

    grace: int
    verdict: tuple[str, str] | None = None
    own_fault: bool = False


class PodWorker:
    """See the module's docstring. `update`, `remove`, `wake` and `end` return at once."""

    def __init__(self, context: Context, pod: Object, *, new: bool) -> None:
        self.pod = pod
        self.uid = uid_of(pod)
        #: The pod does not use the node's resources any more.
        self.over = False
        self._context = context
        self._files = PodFiles(context.config.pods_dir, context.config.logs_dir, context.config.cluster_domain)
        counting = partial(context.probe_metrics.count, self.uid, namespace_of(pod), name_of(pod))
        self._probes = PodProbes(context.runtime, context.clock, self.wake, self._probe_event, count=counting)
        self._starter = Starter(context, self._files)
        self._stopper = Stopper(context)
        self._awake = asyncio.Event()
        #: It was not the runtime alone that woke it.
        self._other_news = False
        self._interrupt = asyncio.Event()
        self._ending: Ending | None = None
        #: The API has forgotten the pod.
        self._removed = False
        self._finished = False
        self._rejection: tuple[str, str] | None = None
        #: Nothing of it can be in the runtime yet, so there is nothing to read.
        self._new = new
        #: The sandbox in which containers were started last.
        self._made: set[str] = set()
        self._reasons: dict[str, tuple[str, str]] = {}
        self._retry_in: float | None = None
        #: For volumes that cannot be had, as upstream's.
        self._mounting = Backoff(base=0.5, limit=122.0)
        self._messages: dict[str, str] = {}
        self._last_status: dict[str, Any] = {}
        self._resizer = Resizer(context)
        self._log = log.bind(pod=f"{metadata_of(pod).get('namespace')}/{metadata_of(pod).get('name')}")

    # -- what others tell ------------------------------------------------------------------------------------------------------------

    def update(self, pod: Object) -> None:
        """The API shows a new version of the pod. The echo of our own status wakes nobody."""
        before, self.pod = self.pod, pod
        self._context.statuses.observe(pod)
        if self._ending is not None and is_deleting(pod) and grace_of(pod) < self._ending.grace:
            self._ending = replace(self._ending, grace=grace_of(pod))
            self._interrupt.set()
        elif self._ending is None and (is_deleting(pod) or is_terminal(pod)):
            self._interrupt.set()
        if concerns_us(before, pod):
            self.wake()

    def remove(self, pod: Object) -> None:
        """The API has no such pod any more."""
        self.pod = pod
        self._removed = True
        self._context.statuses.forget(self.uid)
        self._interrupt.set()
        self.wake()

    def reject(self, reason: str, message: str) -> None:
        """The node will not run it."""
        self._rejection = (reason, message)
        self.wake()

    def end(self, verdict: tuple[str, str] | None, grace: int | None = None, *, own_fault: bool = False) -> None:
        """End the pod for a reason of the node's own, or because it exceeds a limit of its own."""
        if self._ending is None:
            self._ending = Ending(grace if grace is not None else grace_of(self.pod), verdict, own_fault)
            self._interrupt.set()
            self.wake()

    @property
    def active(self) -> bool:
        """It uses the node's resources, and nothing has been decided about its end."""
        ending = self._ending is not None or self._removed or self._rejection is not None
        return not (self.over or ending or is_deleting(self.pod) or is_terminal(self.pod))

    def wake(self) -> None:
        """Something may have changed."""
        self._other_news = True
        self._awake.set()

    def runtime_changed(self) -> None:
        """Something of it may have changed in the runtime."""
        self._awake.set()

    # -- the loop ----------------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until nothing of the pod is left."""
        backoff = Backoff(base=0.5, limit=20.0)
        try:
            while not self._finished:
                delay: float | None
                self._awake.clear()
                self._other_news = False
                try:
                    delay = await self._step()
                    backoff.reset()
                except Interrupted:
                    self._interrupt.clear()
                    continue
                except RuntimeFailure as error:
                    delay = backoff.next()
                    self._log.warning("the runtime refused", error=str(error), retry_in=round(delay, 1))
                except Exception:
                    delay = backoff.next()
                    self._log.exception("a step failed", retry_in=round(delay, 1))
                if not self._finished:
                    await self._rest(delay)
        finally:
            self._probes.close()
        self._context.worker_ended(self.uid)

    async def _rest(self, delay: float | None) -> None:
        if delay is None:
            await self._awake.wait()
        elif delay > 0 and not self._awake.is_set():
            await run_until(self._awake, self._context.clock.sleep(delay))

    async def _race(self, work: Awaitable[T]) -> T:
        """Wait for `work`, but not when the pod is to end, or to end sooner."""
        return await unless(self._interrupt, work)

    async def _step(self) -> float | None:
        """Do what is next; the seconds after which to come back unasked, None for never."""
        if self.over:
            return await self._after_the_end()
        if self._ending is None and (self._removed or is_deleting(self.pod) or is_terminal(self.pod)):
            self._ending = Ending(grace_of(self.pod))
        self._interrupt.clear()
        if self._ending is not None:
            return await self._terminate(self._ending)
        if self._rejection is not None:
            return self._refuse(self._rejection)
        return await self._sync()

    # -- syncing -----------------------------------------------------------------------------------------------------------------------

    async def _sync(self) -> float | None:
        pod, context = self.pod, self._context
        context.objects.hold(self.uid, references_of(pod))
        new, self._new = self._new, False
        runtime = PodRuntime(self.uid) if new else await context.runtime.pod(self.uid)
        pod = self._resizer.allocate(pod, runtime)
        self._follow(pod, runtime)
        left = self._deadline_left(pod)
        if left is not None and left <= 0:
            message = "Pod was active on the node longer than the specified deadline"
            context.event(pod, "Normal", "DeadlineExceeded", message)
            self._ending = Ending(grace_of(pod), ("DeadlineExceeded", message))
            return 0
        if self._publish(pod, runtime, lazy=_FIRST_STATUS_WAITS if new else 0.0):
            self._ending = Ending(grace_of(pod))
            return 0
        self._retry_in = None
        actions = compute_pod_actions(pod, runtime, self._probes)
        if await self._resizer.follow(pod, runtime, actions):
            self._publish(pod, runtime)
            if self._resizer.state.error:
                self._retry(self._mounting.next())
        if not actions.nothing and await self._act(pod, runtime, actions):
            if not self._other_news:
                # What the runtime has told of until now is in what it is asked for next.
                self._awake.clear()
            runtime = await context.runtime.pod_of(self.uid, {each.id for each in runtime.sandboxes} | self._made)
            pod = self._resizer.allocate(self.pod, runtime)
            self._follow(pod, runtime)
            if self._publish(pod, runtime):
                self._ending = Ending(grace_of(pod))
                return 0
            if self._retry_in is None and not compute_pod_actions(pod, runtime, self._probes).nothing:
                return 0  # What was started makes the next thing possible already: an event of the runtime is not waited for.
        elif self._reasons:
            self._publish(pod, runtime)
        if actions.nothing and runtime.sandbox is not None:
            await self._refresh_volumes(pod)
        await self._prune(pod, runtime)
        return self._next_visit(pod)

    def _next_visit(self, pod: Object) -> float | None:
        moments = [each for each in (self._retry_in, self._deadline_left(pod)) if each is not None]
        refresh = self._context.volumes.refresh_at(self.uid)
        if refresh is not None:
            moments.append(max(1.0, (refresh - self._context.clock.now()).total_seconds()))
        return max(0.01, min(moments)) if moments else None

    def _deadline_left(self, pod: Object) -> float | None:
        seconds = spec_of(pod).get("activeDeadlineSeconds")
        started = self._last_status.get("startTime") or status_of(pod).get("startTime")
        if seconds is None or not started:
            return None
        return float(seconds) - (self._context.clock.now() - parse_time(started)).total_seconds()

    def _retry(self, seconds: float) -> None:
        self._retry_in = seconds if self._retry_in is None else min(self._retry_in, seconds)

    def _publish(self, pod: Object, runtime: PodRuntime, *, lazy: float = 0.0, terminal: bool = False) -> bool:
        """Have the pod's status written; whether its phase is final."""
        merged = {**pod, "status": {**status_of(pod), **self._last_status_parts(pod)}}
        view = View(
            runtime=runtime,
            probes=self._probes,
            now=self._context.clock.now(),
            runtime_name=self._context.runtime.name,
            host_ips=self._context.node.host_ips,
            reasons=self._reasons,
            terminal=terminal,
            message_of=lambda record: self._message(pod, record),
            resize=self._resizer.state,
            recursive=self._context.runtime.recursive,
            verdict=self._ending.verdict if self._ending is not None else None,
            own_fault=self._ending is not None and self._ending.own_fault,
        )
        status = generate_status(merged, view)
        self._last_status = status
        if not self._removed:
            self._context.statuses.set(pod, status, lazy=lazy)
        return is_gone_quiet(status)

    def _last_status_parts(self, pod: Object) -> dict[str, Any]:
        """What was decided last is newer than what the API shows, but for the conditions of others."""
        if not self._last_status:
            return {}
        own = {each["type"]: each for each in self._last_status.get("conditions") or ()}
        others = [each for each in status_of(pod).get("conditions") or () if each["type"] not in own]
        return {**self._last_status, "conditions": [*own.values(), *others]}

    def _message(self, pod: Object, record: ContainerRecord) -> str:
        if record.id not in self._messages:
            container = next((each for each in every_container(pod) if each["name"] == record.name), {"name": record.name})
            self._messages[record.id] = self._files.termination_message(pod, container, record)
        return self._messages[record.id]

    def _follow(self, pod: Object, runtime: PodRuntime) -> None:
        """Probe what runs."""
        ips = pod_ips(pod, runtime, self._context.node.host_ips)
        specs = {each["name"]: each for each in every_container(pod)}
        status = status_of(pod)
        known = {
            each["name"]: each
            for each in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
        }
        running = {}
        for record in runtime.containers:
            if record.running and record.name in specs:
                before = known.get(record.name) or {}
                same = str(before.get("containerID") or "").endswith(f"//{record.id}")
                running[record.id] = Running(
                    specs[record.name],
                    ips[0] if ips else "",
                    record.started_at / 1e9,
                    was_started=same and bool(before.get("started")),
                    was_ready=same and bool(before.get("ready")),
                )
                self._reasons.pop(record.name, None)
        self._probes.follow(running)

    def _probe_event(self, container: str, kind: str, reason: str, message: str) -> None:
        field = "initContainers" if any(each["name"] == container for each in init_containers_of(self.pod)) else "containers"
        self._context.event(self.pod, "Warning" if kind == "Warning" else "Normal", reason, message, container, field)

    # -- acting ------------------------------------------------------------------------------------------------------------------------

    async def _act(self, pod: Object, runtime: PodRuntime, actions: PodActions) -> bool:
        """Carry out `actions`; whether the runtime was touched."""
        context = self._context
        if actions.kill_pod:
            if actions.create_sandbox:
                context.event(pod, "Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            await self._race(self._stopper.stop_all(pod, runtime, grace_of(pod)))
            for sandbox in runtime.sandboxes:
                await context.runtime.stop_sandbox(sandbox.id)
            if not actions.create_sandbox:
                return True
        for kill in actions.kill:
            grace = self._probes.grace(container_spec(pod, kill.record.name), kill.probe)
            await self._race(
                self._stopper.stop(pod, kill.record, grace if grace is not None else grace_of(pod), runtime, kill.message)
            )
        if actions.create_sandbox and not self._network_allows(pod):
            return actions.kill_pod
        starts, waiting = hold_back(actions.start, context.crashes, lambda each: f"{self.uid}/{each['name']}")
        for each in waiting:
            name = each.start.container["name"]
            delay = format_duration(timedelta(seconds=each.delay))
            self._reasons[name] = (
                "CrashLoopBackOff",
                f"back-off {delay} restarting failed container={name} pod={pod_label(pod)}",
            )
            words = f"Back-off restarting failed container {name} in pod {pod_label(pod)}"
            field = "initContainers" if each.start.kind == "init" else "containers"
            context.event(pod, "Warning", "BackOff", words, name, field)
            self._retry(each.remaining)
        if not starts and not actions.create_sandbox:
            return bool(actions.kill)
        return await self._bring_up(pod, runtime, actions, starts)

    def _network_allows(self, pod: Object) -> bool:
        node = self._context.node
        if spec_of(pod).get("hostNetwork") or node.network_ready.is_set():
            return True
        self._context.event(pod, "Warning", "NetworkNotReady", f"network is not ready: {node.network_problem}")
        return False

    async def _bring_up(self, pod: Object, runtime: PodRuntime, actions: PodActions, starts: list[Start]) -> bool:
        """The sandbox, the volumes and the images at the same time; then the containers one after another."""
        context = self._context
        self._rejection = await self._race(grant_all(context, pod))
        if self._rejection is not None:
            self._retry(0)
            return True
        config = sandbox_config(
            pod,
            actions.attempt,
            dns=dnsconfig.pod_dns(pod, context.node_dns),
            logs=str(context.config.logs_dir),
            cgroup_root=context.cgroups.root if context.cgroups.enabled else None,
        )
        volumes = asyncio.ensure_future(context.volumes.ensure(pod, []))
        images = {each.container["name"]: asyncio.ensure_future(self._starter.image(pod, each, config)) for each in starts}
        try:
            place = await self._starter.sandbox(pod, runtime, actions, config)
            self._made = {place.id}
            try:
                await self._race(volumes)
            except VolumeProblem as problem:
                context.event(pod, "Warning", "FailedMount", str(problem))
                self._log.warning("a volume is missing", error=str(problem))
                self._retry(self._mounting.next())
                return True
            self._mounting.reset()
            for each in starts:
                if not await self._start(pod, each, place, images[each.container["name"]]) and each.kind == "init":
                    break
            return True
        finally:
            for task in (volumes, *images.values()):
                task.cancel()
            await asyncio.gather(volumes, *images.values(), return_exceptions=True)

    async def _start(self, pod: Object, start: Start, place: Place, image: asyncio.Future[Image]) -> bool:
        name = start.container["name"]
        try:
            ready = await self._race(image)
            container_id = await self._starter.run(pod, start, place, ready)
            await self._race(self._starter.post_start(pod, start, container_id, place))
        except StartProblem as problem:
            if self._reasons.get(name) != (problem.reason, problem.message):
                self._log.info("a container did not start", container=name, reason=problem.reason, error=problem.message)
            self._reasons[name] = (problem.reason, problem.message)
            # A missing object wakes the worker when it appears; everything else is tried again.
            self._retry(problem.retry_in or 10.0)
            return False
        self._reasons.pop(name, None)
        return True

    async def _refresh_volumes(self, pod: Object) -> None:
        """Bring mounted ConfigMaps, Secrets and tokens up to date."""
        try:
            await self._race(self._context.volumes.ensure(pod, []))
        except VolumeProblem as problem:
            self._context.event(pod, "Warning", "FailedMount", str(problem))
            self._retry(self._mounting.next())
        else:
            self._mounting.reset()

    async def _prune(self, pod: Object, runtime: PodRuntime) -> None:
        """Of dead containers, one of each name is kept, for its log and its last state; of dead sandboxes none."""
        kept: dict[str, int] = {}
        used = set()
        for record in runtime.containers:
            seen = kept.get(record.name, 0)
            if record.state in ("exited", "created") and seen >= 2:
                await self._context.runtime.remove_container(record.id)
                self._files.remove_log(pod, record.name, record.attempt)
                self._messages.pop(record.id, None)
                continue
            kept[record.name] = seen + 1
            used.add(record.sandbox_id)
        for sandbox in runtime.sandboxes[1:]:
            if not sandbox.ready and sandbox.id not in used:
                await self._context.runtime.remove_sandbox(sandbox.id)

    # -- ending ------------------------------------------------------------------------------------------------------------------------

    def _refuse(self, rejection: tuple[str, str]) -> float | None:
        reason, message = rejection
        self._context.event(self.pod, "Warning", reason, message)
        self._context.statuses.set(self.pod, rejected_status(self.pod, reason, message, self._context.clock.now()))
        self.over = True
        self._context.worker_over(self.uid)
        return None

    async def _terminate(self, ending: Ending) -> float | None:
        pod, context = self.pod, self._context
        self._probes.stop_killing()
        runtime = await context.runtime.pod(self.uid)
        settled = is_terminal(pod) and not runtime.any_alive
        if not settled:
            self._show_ending(pod, runtime)
        if runtime.any_alive:
            stopping = self._race(self._stopper.stop_all(pod, runtime, ending.grace))
            await beside(stopping, self._probes.judged, partial(self._tell_readiness, pod))
        for sandbox in runtime.sandboxes:
            if sandbox.ready:
                await context.runtime.stop_sandbox(sandbox.id)
        runtime = await context.runtime.pod(self.uid)
        if runtime.any_alive:
            raise RuntimeFailure("FAILED_PRECONDITION", "containers are still running after they were stopped")
        self._probes.close()
        if not settled:
            self._publish(pod, runtime, terminal=True)
        await context.volumes.teardown(self.uid)
        context.cgroups.remove(pod)
        context.objects.hold(self.uid, ())
        self.over = True
        context.worker_over(self.uid)
        self._log.debug("all of the pod has ended")
        return 0

    def _show_ending(self, pod: Object, runtime: PodRuntime) -> None:
        """While it ends a pod is still seen: what died is not probed any more."""
        self._probes.drop_all_but({each.id for each in runtime.containers if each.running})
        self._publish(pod, runtime)

    async def _tell_readiness(self, pod: Object) -> None:
        """One that ends and is not ready any more is not to be sent to where only ending endpoints are left (KEP-1669)."""
        runtime = await self._context.runtime.pod(self.uid)
        if runtime.any_alive:
            self._show_ending(pod, runtime)

    async def _after_the_end(self) -> float | None:
        """The pod is over. Its logs and last status stay until the API lets it go."""
        if not (self._removed or is_deleting(self.pod)):
            return None
        if not self._removed:
            self._context.statuses.finish(self.pod)
        runtime = await self._context.runtime.pod(self.uid)
        await remove_everything(self._context, runtime)
        self._files.remove_logs(self.pod)
        self._context.crashes.forget(f"{self.uid}/")
        self._context.images.forget(self.uid)
        self._finished = self._removed
        return None
