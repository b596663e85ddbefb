"""All services of a member, put together: who may call what, what a learner refuses, and those that only speak of the others."""

from __future__ import annotations

from kubeling.etcdlite import (
    auth_service,
    cluster_service,
    election_service,
    health,
    kv_service,
    lease_service,
    lock_service,
    maintenance,
    reflection,
    watch_service,
)
from kubeling.etcdlite.access import Access
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.recipes import Recipes
from kubeling.etcdlite.rpc import Service


def services_of(member: Member, access: Access) -> list[Service]:
    """What the client port serves, as gRPC and as JSON."""
    services = access.guarded(
        [
            kv_service.handler(member, access),
            watch_service.handler(member, access),
            lease_service.handler(member, access),
            auth_service.handler(member, access),
            cluster_service.handler(member),
            maintenance.handler(member),
        ]
    )
    recipes = Recipes(member, services)
    services += [lock_service.handler(recipes), election_service.handler(recipes)]
    names = [service.name for service in services]
    services.append(health.handler(member, names))
    return [*cluster_service.guarded(services, member), *reflection.handlers([*names, health.NAME])]
