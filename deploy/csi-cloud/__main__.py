"""python deploy/csi-cloud: a CSI driver for the volumes of a cloud provider.

`--roles=controller` serves CSI's Controller over the provider's `Volumes`, with the sidecars of csi-hostpath beside it (central here: one leader for the cluster).
`--roles=node` serves CSI's Node for the disks of this machine, and tells the kubelet of it once the cloud has told the node which zone it is in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "csi-hostpath"))

import controller
import grpc
import node as node_service
import registrar
import services
from attacher import Attacher
from provisioner import Provisioner
from resizer import Resizer
from sidecar import Context, start

from kubeling.api.meta import labels_of, spec_of
from kubeling.api.resources import NODES
from kubeling.client import identity, kubeconfig
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.leaderelection import LeaderElector
from kubeling.client.rest import Client
from kubeling.cloud.node_controller import UNINITIALIZED
from kubeling.cloud.provider import Cluster, Volumes
from kubeling.cloud.providers import create
from kubeling.daemon import main as daemon_main
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.linux.unixpath import UnixChannel
from kubeling.proto import csi_pb2_grpc as pb_grpc

DRIVER = "cloud.csi.kubeling.dev"
log = get_logger("csi-cloud")


async def run(args: object) -> None:
    options = vars(args)
    roles, name = set(options["roles"].split(",")), options["driver_name"]
    socket = Path(options["socket"])
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        loaded = kubeconfig.load(options["kubeconfig"])
        client = await stack.enter_async_context(Client(loaded, user_agent=name, clock=clock))
        offered: list[Any] = [(pb_grpc.add_IdentityServicer_to_server, services.Identity(name))]
        if "controller" in roles:
            offered.append((pb_grpc.add_ControllerServicer_to_server, controller.Controller(volumes(options))))
        if "node" in roles:
            topology = await where(client, options["node_name"], clock)
            disks: Any = node_service.Disks(Path(options["volumes"]), options["node_name"])
            served = node_service.Node(disks, options["node_name"], topology, options["max_volumes"])
            offered.append((pb_grpc.add_NodeServicer_to_server, served))
        server = await registrar.listen(socket, services.Answers(), *offered)
        stack.push_async_callback(server.stop, 1.0)
        log.info("serving CSI", driver=name, roles=sorted(roles), socket=str(socket))
        if "node" in roles:
            registration = await registrar.register(Path(options["kubelet_root"]) / "plugins_registry", name, str(socket))
            stack.push_async_callback(registration.stop, 1.0)
        if "controller" not in roles:
            await asyncio.Event().wait()
        channel = await stack.enter_async_context(UnixChannel(socket))

        async def lead() -> None:
            await sidecars(client, name, channel, clock)

        await LeaderElector(client, name.replace(".", "-"), identity.make(), namespace=options["namespace"], clock=clock).run(
            lead
        )


def volumes(options: dict[str, Any]) -> Volumes:
    """Those of the provider that the flags name."""
    nothing = Cluster(services=lambda: (), nodes_with_endpoints=lambda _: frozenset())
    given = dict(each.split("=", 1) for each in options["cloud_option"])
    found = create(options["cloud_provider"], {"volumes": options["volumes"], **given}, nothing).volumes
    if found is None:
        raise SystemExit(f"the cloud {options['cloud_provider']} has no volumes")
    return found


async def where(client: Client, node: str, clock: Clock) -> dict[str, str]:
    """The node's zone and region. Until the cloud has told it which machine it is, that is not known."""
    told = asyncio.Event()
    informers = InformerFactory(client, clock=clock)
    nodes = informers.informer(NODES, field_selector=f"metadata.name={node}")

    def look(change: Any) -> None:
        taints = spec_of(change.new or {}).get("taints") or ()
        if change.new is not None and not any(each["key"] == UNINITIALIZED for each in taints):
            told.set()

    nodes.add_handler(look)
    async with Supervisor(clock) as parts:
        informers.start(parts)
        await told.wait()
    found = nodes.store.get(node)
    return {key: labels_of(found)[key] for key in (controller.ZONE, controller.REGION) if found and labels_of(found).get(key)}


async def sidecars(client: Client, driver: str, channel: grpc.aio.Channel, clock: Clock) -> None:
    """While we lead."""
    events = EventRecorder(client, driver, clock=clock)
    informers = InformerFactory(client, clock=clock)
    context = Context(driver, "", "", client, informers, events, clock, channel)
    async with Supervisor(clock) as parts:
        start(parts, context, {"provisioner": Provisioner, "attacher": Attacher, "resizer": Resizer})
        await asyncio.Event().wait()


def main() -> int:
    parser = daemon_main.parser("csi-cloud", __doc__ or "")
    add = parser.add_argument
    add("--roles", default="controller,node")
    add("--driver-name", default=DRIVER)
    add("--node-name", default=os.environ.get("NODE_NAME", os.uname().nodename))
    add("--namespace", default="csi-cloud", help="of the controllers' Lease")
    add("--socket", default=f"/var/lib/kubelet/plugins/{DRIVER}/csi.sock", help="where CSI is served")
    add("--kubelet-root", default="/var/lib/kubelet", help="the kubelet's --root-dir, under the same path here")
    add("--cloud-provider", default="local", help="'local', or one that is registered as an entry point")
    add("--cloud-option", action="append", default=[], metavar="NAME=VALUE", help="an option of the provider")
    add("--volumes", default="/var/lib/kubeling/cloud", metavar="DIR", help="where the disks of the local cloud are")
    add("--max-volumes", type=int, default=64, help="how many volumes a machine takes, 0 for any number")
    add("--kubeconfig", default=None)
    args = parser.parse_args()
    return daemon_main.run(args, run(args))


if __name__ == "__main__":
    sys.exit(main())
