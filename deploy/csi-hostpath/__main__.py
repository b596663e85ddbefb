"""python deploy/csi-hostpath: a CSI driver whose volumes are directories of its node, with its sidecars.

One process a node by default. `--roles` divides it: `driver` serves CSI on the socket, `registrar` tells the kubelet of it, and `provisioner`, `attacher`,
`resizer` and `snapshotter` are clients of that socket and of the apiserver, so each may also run as a container of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import registrar
import services
from attacher import Attacher
from provisioner import Provisioner
from resizer import Resizer
from sidecar import Context, start
from snapshotter import Snapshotter
from store import Store

from kubeling.client import kubeconfig
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client
from kubeling.daemon import main as daemon_main
from kubeling.daemon.clock import SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.linux.unixpath import UnixChannel
from kubeling.proto import csi_pb2_grpc as pb_grpc

DRIVER = "hostpath.csi.kubeling.dev"
SIDECARS: dict[str, Any] = {"provisioner": Provisioner, "attacher": Attacher, "resizer": Resizer, "snapshotter": Snapshotter}
log = get_logger("csi-hostpath")


async def run(args: object) -> None:
    options = vars(args)
    roles, kubelet = set(options["roles"].split(",")), Path(options["kubelet_root"])
    name, node = options["driver_name"], options["node_name"]
    key = f"topology.{name}/node"
    socket = kubelet / "plugins" / name / "csi.sock"
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        if "driver" in roles:
            things = Store(Path(options["data"]))
            node_service = services.Node(things, node, {key: node}, options["max_volumes"])
            server = await registrar.listen(
                socket,
                services.Answers(),
                (pb_grpc.add_IdentityServicer_to_server, services.Identity(name)),
                (
                    pb_grpc.add_ControllerServicer_to_server,
                    services.Controller(things, node, {key: node}, attach=options["attach"]),
                ),
                (pb_grpc.add_NodeServicer_to_server, node_service),
            )
            stack.push_async_callback(server.stop, 1.0)
            log.info("serving CSI", driver=name, node=node, socket=str(socket))
        if "registrar" in roles:
            registration = await registrar.register(kubelet / "plugins_registry", name, str(socket))
            stack.push_async_callback(registration.stop, 1.0)
        wanted = {each: kind for each, kind in SIDECARS.items() if each in roles}
        if wanted:
            channel = await stack.enter_async_context(UnixChannel(socket))
            client = await stack.enter_async_context(Client(kubeconfig.load(options["kubeconfig"]), user_agent=name, clock=clock))
            events = EventRecorder(client, f"{name}_{node}", clock=clock)
            informers = InformerFactory(client, clock=clock)
            context = Context(name, node, key, client, informers, events, clock, channel)
            parts = await stack.enter_async_context(Supervisor(clock))
            start(parts, context, wanted)
        await asyncio.Event().wait()


def main() -> int:
    parser = daemon_main.parser("csi-hostpath", __doc__ or "")
    add = parser.add_argument
    add("--roles", default="driver,registrar,provisioner,attacher,resizer,snapshotter")
    add("--driver-name", default=DRIVER)
    add("--node-name", default=os.environ.get("NODE_NAME", os.uname().nodename))
    add("--kubelet-root", default="/var/lib/kubelet", help="the kubelet's --root-dir, under the same path here")
    add("--data", default="/var/lib/csi-hostpath", help="where the volumes lie")
    add("--max-volumes", type=int, default=0, help="how many volumes the node takes, 0 for any number")
    add("--attach", type=daemon_main.boolean, default=True, help="whether volumes are to be attached")
    add("--kubeconfig", default=None)
    args = parser.parse_args()
    return daemon_main.run(args, run(args))


if __name__ == "__main__":
    sys.exit(main())
