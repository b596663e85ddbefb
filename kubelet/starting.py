"""Starting one container: image, environment, mounts, CRI. What stands in the way becomes the container's waiting reason."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kubeling.api.meta import Object, metadata_of, namespace_of, spec_of, uid_of
from kubeling.api.pods import container_status
from kubeling.api.resources import RUNTIME_CLASSES, SECRETS
from kubeling.kubelet import dnsconfig, security, userns
from kubeling.kubelet import env as environment
from kubeling.kubelet.actions import PodActions, Start
from kubeling.kubelet.context import Context, EventKind
from kubeling.kubelet.convert import container_config
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.devices import DeviceProblem
from kubeling.kubelet.env import ConfigError
from kubeling.kubelet.fieldpath import container_of, field_value, resource_value
from kubeling.kubelet.images import ImageProblem
from kubeling.kubelet.manifests import is_static
from kubeling.kubelet.objects import NotSynced, Reference
from kubeling.kubelet.podfiles import PodFiles
from kubeling.kubelet.podstate import PodRuntime
from kubeling.kubelet.podstatus import in_order_of, pod_ips
from kubeling.kubelet.resources import container_limits
from kubeling.kubelet.stopping import grace_of, run_hook
from kubeling.kubelet.volumes import KINDS

if TYPE_CHECKING:
    from kubeling.proto import cri_pb2

_POST_START_SECONDS = 120.0

Image = tuple[str, "cri_pb2.Image | None"]


class StartProblem(Exception):
    """A container did not start: the reason and message of its waiting state, and when to try again."""

    def __init__(self, reason: str, message: str, retry_in: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_in = retry_in


@dataclass(frozen=True, slots=True)
class Place:
    """The sandbox into which containers are started."""

    id: str
    config: cri_pb2.PodSandboxConfig
    ips: tuple[str, ...]


class Starter:
    """Starts the containers of one pod."""

    def __init__(self, context: Context, files: PodFiles) -> None:
        self._context = context
        self._files = files

    async def sandbox(self, pod: Object, runtime: PodRuntime, actions: PodActions, config: cri_pb2.PodSandboxConfig) -> Place:
        """The sandbox that `actions` asks for, or the one that is there."""
        context = self._context
        if spec_of(pod).get("hostUsers") is False:
            await self._own_users(pod, config, actions.create_sandbox)
        if not actions.create_sandbox:
            assert actions.sandbox is not None
            return Place(actions.sandbox.id, config, tuple(pod_ips(pod, runtime, context.node.host_ips)))
        self._files.make_log_dir(pod)
        context.cgroups.ensure(pod)
        handler = await self._runtime_handler(pod)
        self._name(pod, config)
        try:
            sandbox_id = await context.runtime.run_sandbox(config, handler)
        except RuntimeFailure as error:
            context.event(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            raise
        if spec_of(pod).get("hostNetwork"):
            ips = context.node.host_ips
        else:
            status = await context.runtime.sandbox(sandbox_id)
            ips = tuple(in_order_of(context.node.host_ips, status.ips if status is not None else ()))
        return Place(sandbox_id, config, ips)

    def _name(self, pod: Object, config: cri_pb2.PodSandboxConfig) -> None:
        """Give the pod its name, which on the node's network is the node's. RuntimeFailure where it cannot have it."""
        if not config.hostname:
            return
        try:
            config.hostname = dnsconfig.kernel_hostname(pod, self._context.config.cluster_domain)
        except dnsconfig.NameTooLong as problem:
            self._context.event(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {problem}")
            raise RuntimeFailure("INVALID_ARGUMENT", str(problem)) from problem

    async def _own_users(self, pod: Object, config: cri_pb2.PodSandboxConfig, create: bool) -> None:
        """Give the pod a user namespace. RuntimeFailure where it cannot have one: without it would be less than was asked for."""
        context = self._context
        try:
            if create and not await context.runtime.has_user_namespaces(await self._runtime_handler(pod)):
                raise userns.UserNamespaceProblem(
                    "can't set spec.hostUsers: false, the runtime handler does not support user namespaces"
                )
            userns.give(config, userns.ids_of(context.volumes.pods_dir, uid_of(pod), context.config.max_pods))
        except (userns.UserNamespaceProblem, OSError) as problem:
            context.event(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {problem}")
            raise RuntimeFailure("FAILED_PRECONDITION", str(problem)) from problem

    async def _runtime_handler(self, pod: Object) -> str:
        """What the pod's RuntimeClass calls the runtime's handler; empty for the default one."""
        name = spec_of(pod).get("runtimeClassName")
        if not name:
            return ""
        found = await self._object(Reference(RUNTIME_CLASSES, "", name))
        if found is None:
            words = f'runtimeclass.node.k8s.io "{name}" not found'
            self._context.event(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {words}")
            raise RuntimeFailure("NOT_FOUND", words)
        return str(found.get("handler") or "")

    async def image(
        self, pod: Object, start: Start, config: cri_pb2.PodSandboxConfig, described: dict[str, Any] | None = None
    ) -> Image:
        """Have the container's image here, or the one that `described` says, as a container would. StartProblem where it cannot be had."""
        secrets = [found for each in self._pull_secrets(pod) if (found := await self._object(each)) is not None]

        def tell(kind: str, reason: str, message: str) -> None:
            self._event(pod, start, "Warning" if kind == "Warning" else "Normal", reason, message)

        try:
            return await self._context.images.ensure(pod, described or start.container, secrets, config, tell)
        except ImageProblem as problem:
            self._event(pod, start, "Warning", "Failed", f"Error: {problem.reason}")
            raise StartProblem(problem.reason, problem.message, problem.retry_in) from problem
        except RuntimeFailure as error:
            raise StartProblem("ImageInspectError", str(error), 5.0) from error

    async def _image_volumes(self, pod: Object, start: Start, place: Place) -> dict[str, str]:
        """The runtime's names of the images that the container mounts, by volume; they are here then."""
        mounted = {each["name"] for each in start.container.get("volumeMounts") or ()}
        found = {}
        for volume in spec_of(pod).get("volumes") or ():
            source = volume.get("image")
            if source is not None and volume["name"] in mounted:
                described = {"image": source.get("reference") or "", "imagePullPolicy": source.get("pullPolicy")}
                found[volume["name"]] = (await self.image(pod, start, place.config, described))[0]
        return found

    async def run(self, pod: Object, start: Start, place: Place, image: Image) -> str:
        """Create and start it; its ID. StartProblem where that fails."""
        container = start.container
        images = await self._image_volumes(pod, start, place)
        attempt = self.attempt(pod, start)
        try:
            config = await self._config(pod, start, place, image, attempt, images)
            userns.pass_on(place.config, config)
        except (ConfigError, DeviceProblem, NotSynced, OSError) as error:
            self._event(pod, start, "Warning", "Failed", f"Error: {error}")
            raise StartProblem("CreateContainerConfigError", str(error)) from error
        try:
            if start.last is not None and start.last.state == "created":
                # An earlier kubelet died before it could start it. It never ran, so this is no restart.
                await self._context.runtime.remove_container(start.last.id)
            container_id = await self._context.runtime.create_container(place.id, config, place.config)
        except RuntimeFailure as error:
            self._event(pod, start, "Warning", "Failed", f"Error: {error}")
            raise StartProblem("CreateContainerError", error.details) from error
        self._event(pod, start, "Normal", "Created", f"Created container: {container['name']}")
        try:
            await self._context.runtime.start_container(container_id)
        except RuntimeFailure as error:
            self._event(pod, start, "Warning", "Failed", f"Error: {error.details}")
            raise StartProblem("RunContainerError", error.details) from error
        self._event(pod, start, "Normal", "Started", f"Started container {container['name']}")
        return container_id

    async def post_start(self, pod: Object, start: Start, container_id: str, place: Place) -> None:
        """Run the hook, if there is one. A container whose hook fails is stopped, and StartProblem raised."""
        hook = (start.container.get("lifecycle") or {}).get("postStart")
        if not hook:
            return
        ip = place.ips[0] if place.ips else ""
        answer = await run_hook(self._context, start.container, container_id, hook, ip, _POST_START_SECONDS)
        if not answer.success:
            self._event(pod, start, "Warning", "FailedPostStartHook", "PostStartHook failed")
            self._event(pod, start, "Normal", "Killing", "FailedPostStartHook")
            await self._context.runtime.stop_container(container_id, grace_of(pod))
            raise StartProblem("PostStartHookError", f"PostStartHook failed: {answer.words}")

    def attempt(self, pod: Object, start: Start) -> int:
        """The restart count of the container to be, from whoever remembers the last one."""
        name = start.container["name"]
        if start.last is not None:
            return start.last.attempt + (start.last.state != "created")
        known = container_status(pod, name) or {}
        from_api = (known.get("restartCount") or 0) + 1 if known.get("containerID") else 0
        return max(from_api, self._files.last_attempt(pod, name) + 1)

    async def _config(
        self, pod: Object, start: Start, place: Place, image: Image, attempt: int, images: Mapping[str, str]
    ) -> cri_pb2.ContainerConfig:
        container = start.container
        secure = security.effective(pod, container)
        found = image[1]
        uid = found.uid.value if found is not None and found.HasField("uid") else None
        security.verify_non_root(pod, container, secure, uid, found.username if found is not None else "")
        uid_of_pod, name = pod["metadata"]["uid"], container["name"]
        grants = list(self._context.devices.accounts.grants(uid_of_pod, name).values())
        grants += self._context.volumes.block_devices(pod, container)
        await self._context.devices.before_start(uid_of_pod, name)
        variables = await self._environment(pod, container, place.ips)
        for grant in grants:
            variables = {**grant.envs, **variables}
        recursive = await self._runtime_handler(pod) in self._context.runtime.recursive
        mounts = [
            *self._context.volumes.mounts(pod, container, variables, images, recursive=recursive),
            *self._files.container_mounts(pod, container, attempt, place.ips),
        ]
        return container_config(
            pod,
            container,
            attempt=attempt,
            image=image[0],
            environment=variables,
            mounts=mounts,
            limits=replace(
                container_limits(pod, container, self._context.machine.memory), cpus=self._context.cpus.cpus_of(uid_of_pod, name)
            ),
            secure=secure,
            target=await self._target(pod, container),
            grants=grants,
        )

    async def _environment(self, pod: Object, container: Mapping[str, Any], ips: tuple[str, ...]) -> dict[str, str]:
        namespace = namespace_of(pod)
        wanted = set()
        for each in container.get("envFrom") or ():
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if each.get(key):
                    wanted.add((kind, each[key]["name"]))
        for each in container.get("env") or ():
            source = each.get("valueFrom") or {}
            for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if source.get(key):
                    wanted.add((kind, source[key]["name"]))
        objects = {each: await self._context.objects.get(Reference(KINDS[each[0]], namespace, each[1])) for each in wanted}
        node = self._context.node

        def field(path: str) -> str:
            return field_value(pod, path, node_name=self._context.config.node_name, host_ips=node.host_ips, pod_ips=list(ips))

        def resource(reference: Mapping[str, Any]) -> str:
            about = container_of(pod, reference["containerName"]) if reference.get("containerName") else container
            return resource_value(about, reference["resource"], str(reference.get("divisor") or "1"), node.allocatable)

        sources = environment.Sources(namespace, lambda kind, name: objects.get((kind, name)), field, resource)
        links = spec_of(pod).get("enableServiceLinks", True) is not False
        if not self._context.services.synced.is_set() and not is_static(pod):
            try:
                async with asyncio.timeout(10):
                    await self._context.services.synced.wait()
            except TimeoutError:
                raise ConfigError("services have not yet been read at least once, cannot construct envvars") from None
        services = environment.service_variables(self._context.all_services(), namespace, links=links)
        return environment.make_environment(container, sources, services)

    async def _target(self, pod: Object, container: Mapping[str, Any]) -> str | None:
        """The container whose processes an ephemeral one sees."""
        name = container.get("targetContainerName")
        if not name:
            return None
        record = (await self._context.runtime.pod(pod["metadata"]["uid"])).latest(name)
        if record is None or not record.running:
            raise ConfigError(f'unable to find target container "{name}"')
        return record.id

    def _pull_secrets(self, pod: Object) -> list[Reference]:
        names = [each["name"] for each in spec_of(pod).get("imagePullSecrets") or () if each.get("name")]
        return [Reference(SECRETS, namespace_of(pod), each) for each in names]

    async def _object(self, reference: Reference) -> Object | None:
        try:
            return await self._context.objects.get(reference)
        except NotSynced:
            return None

    def _event(self, pod: Object, start: Start, kind: EventKind, reason: str, message: str) -> None:
        field = {"init": "initContainers", "regular": "containers", "ephemeral": "ephemeralContainers"}[start.kind]
        self._context.event(pod, kind, reason, message, start.container["name"], field)


def pod_label(pod: Object) -> str:
    """`name_namespace(uid)`, as messages call a pod."""
    meta = metadata_of(pod)
    return f"{meta.get('name')}_{meta.get('namespace')}({meta.get('uid')})"
