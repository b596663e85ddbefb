"""The kubelet's storage parts put together: plugins that register, CSI drivers and their volumes, claims, and what the Node says about them."""

from __future__ import annotations

from collections.abc import Callable

from kubeling.api.meta import Object, status_of
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import Client
from kubeling.daemon.clock import Clock
from kubeling.daemon.tasks import Supervisor
from kubeling.kubelet.claims import Claims
from kubeling.kubelet.config import Config
from kubeling.kubelet.csi_drivers import CSIDrivers
from kubeling.kubelet.csi_volumes import CSIVolumes
from kubeling.kubelet.plugins import PluginHandler, PluginWatcher
from kubeling.kubelet.tokens import TokenSource
from kubeling.kubelet.volumestats import VolumeStats


class Storage:
    """Made before the volume manager, which gets `claims` and `csi`; started with the rest of the kubelet. `handlers` are those of
    plugins other than CSI drivers, by type."""

    def __init__(
        self,
        config: Config,
        client: Client,
        node: Informer,
        tokens: TokenSource,
        recorder: EventRecorder,
        clock: Clock,
        handlers: dict[str, PluginHandler] | None = None,
    ) -> None:
        self.drivers = CSIDrivers(client, node, config.node_name, clock)
        self.csi = CSIVolumes(config.root_dir, config.pods_dir, self.drivers, config.node_name)
        self.claims = Claims(
            client,
            self.csi,
            tokens,
            lambda: node.store.get(config.node_name),
            config.node_name,
            clock,
            mounting=config.mount_volumes,
        )
        self.stats = VolumeStats(self.csi, clock)
        self.plugins = PluginWatcher(config.root_dir / "plugins_registry", {"CSIPlugin": self.drivers, **(handlers or {})}, clock)
        self._recorder = recorder
        self.claims.event = self._event
        node.add_handler(self._node_changed)

    def start(self, parts: Supervisor, *, wake_all: Callable[[], None], report: Callable[[], None]) -> None:
        """`wake_all` wakes the workers of pods, that may wait for a driver; `report` has the Node's status written."""
        self.drivers.changed = wake_all
        reported: list[list[str]] = [[]]

        def use_changed() -> None:
            used = self.claims.in_use()
            if used != reported[0]:
                reported[0] = used
                report()

        self.claims.use_changed = use_changed
        parts.start("plugins", self.plugins.run)
        parts.start("CSINode", self.drivers.ensure_object)

    def _node_changed(self, change: Change) -> None:
        old = status_of(change.old).get("volumesAttached") if change.old else None
        if status_of(change.obj).get("volumesAttached") != old:
            self.claims.node_changed()

    def _event(self, pod: Object, reason: str, message: str) -> None:
        self._recorder.event({"apiVersion": "v1", "kind": "Pod", **pod}, "Normal", reason, message)
