"""The members as the consensus carries them, what the Cluster service makes of them, and what it refuses.

A member of a :class:`.consensus.configuration.Configuration` carries its peer URLs. Its name and client URLs it publishes itself, through the log, once it
runs; so a member without a name has been added and not been started yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kubeling.daemon.main import UsageError
from kubeling.etcdlite.config import Config, host_port
from kubeling.etcdlite.consensus.configuration import Configuration
from kubeling.etcdlite.consensus.configuration import Member as Voter
from kubeling.etcdlite.errors import BAD_MEMBER_URLS, PEER_URL_EXISTS
from kubeling.proto import etcd_pb2 as pb

#: What a member has published: name and client URLs.
Published = Mapping[int, tuple[str, tuple[str, ...]]]


def encode_urls(urls: tuple[str, ...]) -> bytes:
    """A member's peer URLs, for a configuration."""
    return json.dumps(urls).encode()


def decode_urls(info: bytes) -> tuple[str, ...]:
    """The peer URLs of a member."""
    try:
        return tuple(str(url) for url in json.loads(info))
    except (ValueError, TypeError):
        return ()


def peer_urls(configuration: Configuration) -> dict[int, tuple[str, ...]]:
    """The peer URLs of each member."""
    return {member.id: decode_urls(member.info) for member in configuration.members.values()}


def founding(config: Config) -> Configuration:
    """What ``--initial-cluster`` says: the same on each of its members."""
    return Configuration(Voter(peer.id, False, encode_urls(peer.peer_urls)) for peer in config.members)


def new_id(urls: tuple[str, ...], token: str, nanoseconds: int) -> int:
    """The id of a member that is added; one that is removed and added again gets another."""
    digest = hashlib.sha1(f"{','.join(sorted(urls))}{token}{nanoseconds}".encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def listed(configuration: Configuration, published: Published) -> list[pb.Member]:
    """The members as MemberList shows them."""
    found = []
    for member in configuration.members.values():
        name, client_urls = published.get(member.id, ("", ()))
        urls = decode_urls(member.info)
        found.append(pb.Member(ID=member.id, name=name, peerURLs=urls, clientURLs=client_urls, isLearner=member.learner))
    return found


def checked_urls(urls: tuple[str, ...], configuration: Configuration, own: int = 0) -> tuple[str, ...]:
    """The URLs of a request, none of them another member's. Raises EtcdError."""
    if not urls or not all(_usable(url) for url in urls):
        raise BAD_MEMBER_URLS
    for member, taken in peer_urls(configuration).items():
        if member != own and set(taken) & set(urls):
            raise PEER_URL_EXISTS
    return urls


def _usable(url: str) -> bool:
    if not url.startswith(("http://", "https://")) or url.count("/") != 2:
        return False
    try:
        host, port = host_port(url)
    except ValueError:
        return False
    return bool(host) and port > 0


def description(cluster: int, configuration: Configuration, published: Published) -> bytes:
    """What a member that wants to join is told."""
    members = [
        {"id": f"{member:x}", "name": published.get(member, ("", ()))[0], "peerURLs": urls}
        for member, urls in peer_urls(configuration).items()
    ]
    return json.dumps({"cluster": f"{cluster:x}", "members": members}).encode()


def find_self(said: bytes, config: Config) -> tuple[int, int, bool, dict[int, tuple[str, ...]]]:
    """Of a :func:`description`: the cluster, the own id, whether that member has run before, and everybody's URLs.

    Raises UsageError where no member has this one's URLs, and ValueError where the answer makes no sense.
    """
    try:
        found: dict[str, Any] = json.loads(said)
        cluster = int(found["cluster"], 16)
        members = {int(one["id"], 16): (str(one["name"]), tuple(one["peerURLs"])) for one in found["members"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{error!r}") from None
    mine = set(config.me.peer_urls)
    for member, (name, urls) in members.items():
        if set(urls) == mine:
            return cluster, member, bool(name), {one: theirs for one, (_, theirs) in members.items()}
    known = "; ".join(f"{name or 'unstarted'}={','.join(urls)}" for name, urls in members.values())
    raise UsageError(
        f"the cluster has no member with the peer URLs {','.join(sorted(mine))}, only {known}: add it first (etcdctl member add)"
    )
