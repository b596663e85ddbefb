"""What balancers are told at health-check node ports."""

from __future__ import annotations

import asyncio
import json

from kubeling.kubeproxy.healthcheck import HealthChecks
from kubeling.kubeproxy.model import Endpoint, ServicePort
from tests.ports import free_port


async def answer(port: int) -> tuple[int, dict[str, str], dict[str, object]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return int(head[0].split()[1]), headers, json.loads(body)


async def test_a_node_says_how_many_endpoints_it_has() -> None:
    """Two ports of a Service on one pod are one endpoint; those of other nodes do not count; a proxy that is not well has none to offer."""
    well, port = [True], free_port()
    checks = HealthChecks("127.0.0.1", lambda: well[0])
    ends = (Endpoint("10.0.0.1", 80, local=True), Endpoint("10.0.0.2", 80, local=True))
    far = Endpoint("10.9.0.1", 80)
    made = ServicePort("x", "web", "a", "TCP", 80, external=(*ends, far), external_local=True, health_port=port)
    other = ServicePort("x", "web", "b", "TCP", 81, external=(Endpoint("10.0.0.1", 81, local=True),), health_port=port)
    try:
        checks.sync([made, other])
        async with asyncio.timeout(20):
            while True:
                try:
                    status, headers, body = await answer(port)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        assert (status, headers["x-load-balancing-endpoint-weight"]) == (200, "2")
        assert body == {"service": {"namespace": "x", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": True}
        well[0] = False
        assert (await answer(port))[0] == 503
        well[0] = True
        checks.sync([ServicePort("x", "web", "a", "TCP", 80, external=(far,), external_local=True, health_port=port)])
        status, headers, body = await answer(port)
        assert (status, headers["x-load-balancing-endpoint-weight"], body["localEndpoints"]) == (503, "0", 0)
    finally:
        await checks.close()
