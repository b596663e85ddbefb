"""Pods send with addresses of their own only. In IPv4 the kernel sees to that by itself (`rp_filter`); in IPv6 it needs a rule: what comes in by a pod's link
must have a source to which the way back leads by that same link. One rule for all pods, made once for the node.
"""

from __future__ import annotations

from kubeling.crilite.errors import CriError
from kubeling.crilite.hostports import nft

TABLE = "crilite_antispoof"
_RULES = f"""table ip6 {TABLE}
delete table ip6 {TABLE}
table ip6 {TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    iifname "veth*" fib saddr . iif oif missing drop
  }}
}}
"""


def install() -> str:
    """Make the rule; what is wrong when that fails."""
    try:
        nft("-f", "-", text=_RULES)
    except CriError as error:
        return f"pods cannot be kept from using others' addresses: {error}"
    return ""
