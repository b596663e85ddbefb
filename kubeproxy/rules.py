"""From service ports to the text that nft takes. Pure.

One table of family inet. Maps decide in one look-up, however many Services there are: address, protocol and port to the chain of a service port, and node
port to chain. A chain draws an endpoint and rewrites the destination; only with session affinity an endpoint has a chain of its own. What must have its
source rewritten is masqueraded at the end: what was marked on the way (traffic from outside the pods' range, or through a node port unless its source is to
be kept), and a pod that meets itself.

What a port needs is a :class:`Ruleset` of its own; :class:`Table` holds those of all ports and says what leads from one state to the next, at a cost that
depends on what has changed and not on how much there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubeling.kubeproxy.model import Endpoint, ServicePort
from kubeling.kubeproxy.reuse import GROUP
from kubeling.kubeproxy.text import chain_additions, chain_removals, element_lines, family_of, map_changes, short_hash

TABLE = "inet kubeling-proxy"
#: What the table was called when it knew only IPv4: to be taken away.
FORMER_TABLE = "ip kubeling-proxy"
MARK = "0x4000"
#: Family → how nft calls its header and the type of its addresses.
_FAMILIES = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}
Element = tuple[str, str]
#: What the names of affinity sets begin with.
SEEN = "seen-"


@dataclass(slots=True)
class Ruleset:
    """What a port, or all of them, have in the table: chain → rules, (map or set, key) → verdict ("" in a set), affinity set → type and time-out in seconds."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    elements: dict[Element, str] = field(default_factory=dict)
    affinity_sets: dict[str, tuple[str, int]] = field(default_factory=dict)


class Table:
    """All ports' rules. Two ports may claim the same address (two Services with one external IP): the first by name has it until it lets go."""

    def __init__(
        self, cluster_cidrs: Iterable[str], node_ips: Iterable[str], inside: Iterable[str] = (), *, reuse: bool = False
    ) -> None:
        """`inside`: the networks in which pods keep their addresses; without any they do everywhere. `reuse`: see :mod:`reuse`."""
        self._reuse = reuse
        self._cidrs, self._node_ips, self._inside = tuple(cluster_cidrs), sorted(set(node_ips)), tuple(inside)
        self._pieces: dict[str, Ruleset] = {}
        self._claims: dict[Element, dict[str, str]] = {}

    @property
    def keys(self) -> frozenset[str]:
        """Of the ports that are in it."""
        return frozenset(self._pieces)

    def change(self, updates: Mapping[str, ServicePort | None]) -> str:
        """The script, for one transaction, after which these ports are as they are given; empty where nothing changes."""
        old, new = Ruleset(), Ruleset()
        touched: set[Element] = set()
        for key, port in updates.items():
            before = self._pieces.get(key, Ruleset())
            after = build(port, self._cidrs) if port is not None else Ruleset()
            if before == after:
                continue
            for piece, whole in ((before, old), (after, new)):
                whole.chains.update(piece.chains)
                whole.affinity_sets.update(piece.affinity_sets)
            for element in {*before.elements, *after.elements}:
                if element not in touched:
                    touched.add(element)
                    self._note(old, element)
                self._claim(element, key, after.elements.get(element))
            if port is not None:
                self._pieces[key] = after
            else:
                self._pieces.pop(key, None)
        for element in touched:
            self._note(new, element)
        return changes(old, new)

    def _claim(self, element: Element, key: str, verdict: str | None) -> None:
        claims = self._claims.setdefault(element, {})
        if verdict is not None:
            claims[key] = verdict
        else:
            claims.pop(key, None)
            if not claims:
                del self._claims[element]

    def _note(self, rules: Ruleset, element: Element) -> None:
        claims = self._claims.get(element)
        if claims:
            rules.elements[element] = claims[min(claims)]

    def full(self, remembered: Mapping[str, Mapping[str, int]] | None = None) -> str:
        """A script that replaces the whole table with what is known, in one transaction.

        `remembered`: affinity set → client → seconds that are left to it; those of sets that are still there stay with their endpoint.
        """
        rules = Ruleset()
        for piece in self._pieces.values():
            rules.chains.update(piece.chains)
            rules.affinity_sets.update(piece.affinity_sets)
        for element in self._claims:
            self._note(rules, element)
        script = f"{removal()}{_skeleton(self._node_ips, _outward(self._cidrs, self._inside), reuse=self._reuse)}{changes(Ruleset(), rules)}"
        for name, (_, seconds) in rules.affinity_sets.items():
            clients = ((remembered or {}).get(name) or {}).items()
            seen = (f"{client} expires {min(max(left, 1), seconds)}s" for client, left in clients)
            script += "".join(f"{line}\n" for line in element_lines("add", TABLE, name, seen))
        return script


def removal() -> str:
    """A script that takes the table away, whether it is there or not."""
    return "".join(f"add table {name}\ndelete table {name}\n" for name in (FORMER_TABLE, TABLE))


def build(port: ServicePort, cluster_cidrs: Iterable[str] = ()) -> Ruleset:
    """The rules for one service port. `cluster_cidrs` are the pods' ranges; without any, nothing is masqueraded for coming from elsewhere."""
    rules = Ruleset()
    ranges = list(cluster_cidrs)
    for family in _FAMILIES:
        addresses = [ip for ip in (*port.cluster_ips, *port.external_ips) if family_of(ip) == family]
        if addresses:
            _Port(rules, port, family, [each for each in ranges if family_of(each) == family]).add()
    return rules


class _Port:
    """Adds one port's rules of one family."""

    def __init__(self, rules: Ruleset, port: ServicePort, family: int, ranges: list[str]) -> None:
        self._rules, self._port, self._family = rules, port, family
        self._header, self._kind = _FAMILIES[family]
        self._pods = f"{{ {', '.join(ranges)} }}" if len(ranges) > 1 else "".join(ranges)
        self._proto = port.protocol.lower()
        self._identity = f"{short_hash(port.key)}{family}"

    def add(self) -> None:
        port = self._port
        inside = self._of(port.internal)
        clusters = [f"{ip} . {self._proto} . {port.port}" for ip in port.cluster_ips if family_of(ip) == self._family]
        if inside:
            chain = f"svc-{self._identity}"
            masquerade = (f"{self._header} saddr != {self._pods} meta mark set meta mark or {MARK}",) if self._pods else ()
            self._rules.chains[chain] = (*masquerade, *self._draw(inside))
            self._elements("services", clusters, f"goto {chain}")
        else:
            self._elements("refused", clusters, "goto silent" if port.internal_local and port.everywhere else "goto refuse")
        if port.node_port or port.external_ips:
            self._outside()

    def _outside(self) -> None:
        port = self._port
        addresses = [f"{ip} . {self._proto} . {port.port}" for ip in port.external_ips if family_of(ip) == self._family]
        node_ports = [f"{self._proto} . {port.node_port}"] if port.node_port else []
        endpoints, everywhere = self._of(port.external), self._of(port.everywhere)
        # With policy Local the source is kept; what pods, and this node itself, send to the outer address may go anywhere all the same. Their answers
        # have to come back this way: the pod may be another node's.
        short_cut: tuple[str, ...] = ()
        if port.external_local and everywhere:
            chain = f"all-{self._identity}"
            self._rules.chains[chain] = (f"meta mark set meta mark or {MARK}", *self._draw(everywhere))
            pods = (f"{self._header} saddr {self._pods} goto {chain}",) if self._pods else ()
            short_cut = (*pods, f"fib saddr type local goto {chain}")
        if not endpoints and not short_cut:
            # The connection belongs to another node: it is dropped, so that a balancer's retry finds that one.
            verdict = "goto silent" if port.external_local and everywhere else "goto refuse"
            self._elements("refused", addresses, verdict)
            self._elements("refused-nodeports", node_ports, verdict)
            return
        chain = f"ext-{self._identity}"
        masquerade = () if port.external_local else (f"meta mark set meta mark or {MARK}",)
        self._rules.chains[chain] = (*short_cut, *masquerade, *(self._draw(endpoints) if endpoints else ("drop",)))
        target = f"goto {chain}"
        ranges = [each for each in port.source_ranges if family_of(each) == self._family]
        if addresses and port.source_ranges:
            # Only the load balancer's address is guarded: the node port leads to the unguarded chain, as upstream has it.
            guard = f"lb-{self._identity}"
            allowed = (f"{self._header} saddr {{ {', '.join(ranges)} }} goto {chain}",) if ranges else ()
            self._rules.chains[guard] = (*allowed, "drop")
            target = f"goto {guard}"
        self._elements("services", addresses, target)
        self._elements("nodeports", node_ports, f"goto {chain}")

    def _of(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        return [each for each in endpoints if family_of(each.ip) == self._family]

    def _elements(self, name: str, keys: Iterable[str], verdict: str) -> None:
        for key in keys:
            self._rules.elements[f"{name}{self._family}", key] = verdict

    def _draw(self, endpoints: list[Endpoint]) -> tuple[str, ...]:
        """Rules that lead to one of the endpoints: the one this client had before, else any."""
        for each in endpoints:
            self._elements("live", [each.ip], "")
            if each.local:
                self._elements("hairpin", [f"{each.ip} . {each.ip}"], "")
        if self._port.affinity_seconds:
            return self._draw_sticky(endpoints)
        where = f"meta l4proto {self._proto} dnat {self._header} to"
        if len(endpoints) == 1:
            return (f"{where} {_target(endpoints[0])}",)
        choices = ", ".join(f"{number} : {each.ip} . {each.port}" for number, each in enumerate(endpoints))
        return (f"{where} numgen random mod {len(endpoints)} map {{ {choices} }}",)

    def _draw_sticky(self, endpoints: list[Endpoint]) -> tuple[str, ...]:
        chains, sticky = [], []
        for each in endpoints:
            identity = short_hash(f"{self._identity}/{each.ip}:{each.port}")
            chain, seen = f"ep-{identity}", f"{SEEN}{identity}"
            chains.append(chain)
            sticky.append(f"{self._header} saddr @{seen} goto {chain}")
            self._rules.affinity_sets[seen] = (self._kind, self._port.affinity_seconds)
            self._rules.chains[chain] = (
                f"update @{seen} {{ {self._header} saddr }}",
                f"meta l4proto {self._proto} dnat {self._header} to {_target(each)}",
            )
        choices = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(chains))
        return (*sticky, f"numgen random mod {len(chains)} vmap {{ {choices} }}")


def _target(endpoint: Endpoint) -> str:
    return f"[{endpoint.ip}]:{endpoint.port}" if ":" in endpoint.ip else f"{endpoint.ip}:{endpoint.port}"


def _outward(cidrs: Iterable[str], inside: Iterable[str]) -> list[str]:
    """Rules by which what pods send to elsewhere has the node's address; none where `inside` is empty."""
    found = []
    for family, (header, _) in _FAMILIES.items():
        pods, near = (", ".join(each for each in ranges if family_of(each) == family) for ranges in (cidrs, inside))
        if pods and near:
            found.append(f"    {header} saddr {{ {pods} }} {header} daddr != {{ {near} }} masquerade")
    return found


#: Where a packet that begins a connection belongs to one that leads to no endpoint that there is.
_REUSE = (
    "  chain reused {",
    "    ct reply ip saddr @live4 return",
    "    ct reply ip6 saddr @live6 return",
    f"    log group {GROUP}",
    "    drop",
    "  }",
    *(
        f"  chain reused-{hook} {{ type filter hook {hook} priority mangle; policy accept; "
        "tcp flags & (fin | syn | rst | ack) == syn ct direction original ct status assured ct status dnat jump reused; }"
        for hook in ("prerouting", "output")
    ),
)


def _skeleton(node_ips: Iterable[str], outward: Iterable[str] = (), *, reuse: bool = False) -> str:
    """The table with nothing in it."""
    lines = [f"table {TABLE} {{"]
    dispatch, check, hairpin = [], [], []
    for family, (header, kind) in _FAMILIES.items():
        own = ", ".join(ip for ip in node_ips if family_of(ip) == family)
        elements = f" elements = {{ {own} }};" if own else ""
        place = f"{kind} . inet_proto . inet_service"
        lines += [
            f"  set node-ips{family} {{ type {kind};{elements} }}",
            f"  map services{family} {{ type {place} : verdict; }}",
            f"  map nodeports{family} {{ type inet_proto . inet_service : verdict; }}",
            f"  map refused{family} {{ type {place} : verdict; }}",
            f"  map refused-nodeports{family} {{ type inet_proto . inet_service : verdict; }}",
            f"  set hairpin{family} {{ type {kind} . {kind}; }}",
            f"  set live{family} {{ type {kind}; }}",
        ]
        where, node = f"{header} daddr . meta l4proto . th dport", f"{header} daddr @node-ips{family} meta l4proto . th dport"
        dispatch += [f"    {where} vmap @services{family}", f"    {node} vmap @nodeports{family}"]
        check += [f"    ct state new {where} vmap @refused{family}", f"    ct state new {node} vmap @refused-nodeports{family}"]
        hairpin.append(f"    {header} saddr . {header} daddr @hairpin{family} masquerade")
    lines += [
        "  chain refuse { meta l4proto tcp reject with tcp reset; reject; }",
        "  chain silent { drop; }",
        *("  chain dispatch {", *dispatch, "  }"),
        *("  chain check {", *check, "  }"),
        # route_localnet, which node ports on 127.0.0.1 need, would let pods and neighbours in to what listens on the node's loopback (CVE-2020-8558).
        '  chain martians { type filter hook prerouting priority raw; policy accept; iifname != "lo" ip daddr 127.0.0.0/8 drop; }',
        "  chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump dispatch; }",
        "  chain output { type nat hook output priority -100; policy accept; jump dispatch; }",
        "  chain postrouting {",
        "    type nat hook postrouting priority srcnat; policy accept;",
        f"    meta mark & {MARK} == {MARK} masquerade",
        *hairpin,
        *outward,
        "  }",
        *(
            f"  chain filter-{hook} {{ type filter hook {hook} priority filter; policy accept; jump check; }}"
            for hook in ("input", "forward", "output")
        ),
        *(_REUSE if reuse else ()),
        "}",
        "",
    ]
    return "\n".join(lines)


def changes(old: Ruleset, new: Ruleset) -> str:
    """A script that leads from `old` to `new`, in one transaction; empty where they are the same. Only what differs is touched."""
    lines: list[str] = []
    for name, (kind, seconds) in new.affinity_sets.items():
        if name not in old.affinity_sets:
            lines.append(f"add set {TABLE} {name} {{ type {kind}; flags dynamic,timeout; timeout {seconds}s; }}")
    lines += chain_additions(TABLE, old.chains, new.chains)
    before, after = _by_map(old.elements), _by_map(new.elements)
    for name in {**before, **after}:
        lines += map_changes(TABLE, name, before.get(name, {}), after.get(name, {}))
    lines += chain_removals(TABLE, old.chains, new.chains)
    lines += [f"delete set {TABLE} {name}" for name in old.affinity_sets if name not in new.affinity_sets]
    return "".join(line + "\n" for line in lines)


def _by_map(elements: Mapping[Element, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for (name, key), verdict in elements.items():
        found.setdefault(name, {})[key] = verdict
    return found
