"""From a routing to the files that HAProxy reads. Pure.

Hosts and paths are in maps, so a request costs a few look-ups however many rules there are. The configuration only names the maps' files, certificates and
servers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubeling.deploy.ingress.routes import ANY_HOST, Routing
from kubeling.deploy.ingress.slots import Server, Slots

_HOSTS, _EXACT, _PREFIX, _SECURE, _CERTIFICATES = "hosts.map", "exact.map", "prefix.map", "secure.map", "certificates.list"
SOCKET = "haproxy.sock"


@dataclass(frozen=True, slots=True)
class Settings:
    """`folder` is where the files will be."""

    folder: Path
    http_port: int
    https_port: int
    max_connections: int = 8192
    #: This machine has IPv6, too.
    ipv6: bool = False


def files(routing: Routing, slots: Slots, certificates: dict[str, bytes], settings: Settings) -> dict[str, bytes]:
    """Name → content of every file. `certificates`: key of a Secret → chain and key in PEM; the one under "" is shown to who asks for no other."""
    made: dict[str, bytes] = {}
    numbers = {host: f"h{number}" for number, host in enumerate(sorted(routing.hosts))}
    hosts = [f"{host} {numbers[host]}" for host in numbers if host != ANY_HOST]
    exact = [f"{numbers[name]}|{path} {backend}" for name, host in routing.hosts.items() for path, backend in host.exact.items()]
    prefix = [
        f"{numbers[name]}|{path} {backend}" for name, host in routing.hosts.items() for path, backend in host.prefix.items()
    ]
    secure = [f"{numbers[name]} 1" for name, host in routing.hosts.items() if host.secure]
    for name, lines in ((_HOSTS, hosts), (_EXACT, exact), (_PREFIX, prefix), (_SECURE, secure)):
        made[name] = _text(sorted(lines))
    listed: list[str] = []
    for key, pem in sorted(certificates.items()):
        name = f"{key.replace('/', '_') or 'default'}.pem"
        made[name] = pem
        shown = " ".join(sorted(routing.certificates.get(key, ())))
        line = f"{settings.folder / name} {shown}".rstrip()
        # The first in the list is what a client without SNI is shown.
        listed.insert(0 if key == "" else len(listed), line)
    made[_CERTIFICATES] = _text(listed)
    made["haproxy.cfg"] = _text(_configuration(routing, slots, settings, numbers.get(ANY_HOST, "none")))
    return made


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _configuration(routing: Routing, slots: Slots, settings: Settings, any_host: str) -> list[str]:
    folder = settings.folder
    everywhere, both = ("::", " v4v6") if settings.ipv6 else ("", "")
    lines = [
        "global",
        f"  stats socket unix@{folder / SOCKET} mode 600 level admin expose-fd listeners",
        f"  maxconn {settings.max_connections}",
        "  log stderr format raw daemon notice",
        "  hard-stop-after 1h",
        "  ssl-default-bind-options ssl-min-ver TLSv1.2",
        "  tune.ssl.default-dh-param 2048",
        "defaults",
        "  mode http",
        "  timeout connect 5s",
        "  timeout client 60s",
        "  timeout server 60s",
        "  timeout tunnel 1h",
        "  timeout http-request 30s",
        "  timeout http-keep-alive 60s",
        # An endpoint that has just gone costs nobody a request: another one is tried.
        "  retries 3",
        "  option redispatch 1",
        "  retry-on conn-failure",
        "  option forwardfor",
        "frontend http",
        f"  bind {everywhere}:{settings.http_port}{both}",
        *_rules(folder, any_host),
        f"  http-request redirect scheme https code 308 if {{ var(txn.host_id),map_str({folder / _SECURE}) -m found }}",
        *_choice(),
        "frontend https",
        f"  bind {everywhere}:{settings.https_port}{both} ssl crt-list {folder / _CERTIFICATES} alpn h2,http/1.1",
        "  http-request set-header X-Forwarded-Proto https",
        *_rules(folder, any_host),
        *_choice(),
        "backend none",
    ]
    if routing.default:
        lines += _servers(slots["none"])
    else:
        lines.append(
            '  http-request return status 404 content-type text/plain string "no Ingress has a rule for this host and path\\n"'
        )
    for name in sorted(routing.backends):
        lines += [f"backend {name}", *_servers(slots[name])]
    return lines


def _rules(folder: Path, any_host: str) -> list[str]:
    found = "{ var(txn.host_id) -m found }"
    return [
        "  http-request set-var(txn.host) req.hdr(host),field(1,:),lower",
        f"  http-request set-var(txn.host_id) var(txn.host),map_str({folder / _HOSTS})",
        f'  http-request set-var(txn.host_id) \'var(txn.host),regsub("^[^.]*","*"),map_str({folder / _HOSTS})\' if !{found}',
        f"  http-request set-var(txn.host_id) str({any_host}) if !{found}",
        "  http-request set-var(txn.path) path",
        "  http-request set-var(txn.bar) str(|)",
        "  http-request set-var(txn.whole) var(txn.host_id),concat(,txn.bar),concat(,txn.path)",
        f"  http-request set-var(txn.backend) var(txn.whole),map_str({folder / _EXACT})",
        f"  http-request set-var(txn.backend) var(txn.whole),concat(/),map_beg({folder / _PREFIX}) if !{{ var(txn.backend) -m found }}",
    ]


def _choice() -> list[str]:
    return ["  use_backend %[var(txn.backend)] if { var(txn.backend) -m found }", "  default_backend none"]


def wanted(routing: Routing) -> dict[str, tuple[Server, ...]]:
    """The servers of each backend; "none" is the one for who has no rule."""
    found = {name: backend.servers for name, backend in routing.backends.items()}
    return {**found, "none": found[routing.default]} if routing.default else found


def _servers(slots: tuple[Server | None, ...]) -> list[str]:
    words = '"the Service has no ready endpoints that answer\\n"'
    found = [f"  http-error status 503 content-type text/plain string {words}", "  balance random(2)"]
    for number, server in enumerate(slots):
        if server is None:
            found.append(f"  server s{number} 127.0.0.1:9 disabled")
            continue
        ip, port = server
        place = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
        found.append(f"  server s{number} {place}")
    return found
