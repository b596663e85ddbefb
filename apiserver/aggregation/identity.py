"""Who is asking, told to a server behind this one: the headers of the front proxy, and the ConfigMap by which such servers know whom to believe them from."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from kubeling.api import errors, resources
from kubeling.api.meta import Object
from kubeling.apiserver.authn.user import User
from kubeling.apiserver.config import Config
from kubeling.apiserver.context import Context
from kubeling.apiserver.registry.store import Change
from kubeling.apiserver.reverse import Header

CONFIG_MAP = "extension-apiserver-authentication"
#: What the header's name may hold; the rest is escaped.
_SAFE = "!#$&'*+-.^_`|~"


def headers(user: User) -> list[Header]:
    """X-Remote-*: the user, the groups, and what else is known."""
    found = [(b"x-remote-user", user.name.encode())]
    found += [(b"x-remote-group", each.encode()) for each in user.groups]
    for key, values in (user.extra or {}).items():
        name = b"x-remote-extra-" + quote(key.lower(), safe=_SAFE).encode()
        found += [(name, each.encode()) for each in values]
    return found


def config_map_data(config: Config) -> dict[str, str]:
    """What the ConfigMap says: the authorities of clients and of front proxies, and the names of the latter's headers."""
    auth = config.auth
    found: dict[str, str] = {}
    if auth.client_ca_file:
        found["client-ca-file"] = Path(auth.client_ca_file).read_text()
    if auth.proxy_ca_file:
        found["requestheader-client-ca-file"] = Path(auth.proxy_ca_file).read_text()
        for name, values in {
            "allowed-names": auth.proxy_names,
            "username-headers": auth.proxy_user_headers,
            "group-headers": auth.proxy_group_headers,
            "extra-headers-prefix": auth.proxy_extra_prefixes,
        }.items():
            found[f"requestheader-{name}"] = orjson.dumps(list(values)).decode()
        if auth.proxy_uid_headers:
            found["requestheader-uid-headers"] = orjson.dumps(list(auth.proxy_uid_headers)).decode()
    return found


async def publish(context: Context) -> None:
    """Write the ConfigMap, or bring what it says up to date; what others have added stays."""
    from kubeling.apiserver.bootstrap import SELF
    from kubeling.apiserver.registry import pipeline
    from kubeling.apiserver.registry.pipeline import Options

    data = config_map_data(context.config)
    served = context.kinds.find("", "v1", "configmaps")
    assert served is not None
    store = context.kinds.store(resources.CONFIG_MAPS)
    if not data:
        return
    current = await store.live("kube-system", CONFIG_MAP)
    if current is None:
        made: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP, "namespace": "kube-system"},
        }
        try:
            await pipeline.create(context, served, store, "kube-system", {**made, "data": data}, Options(SELF, "kube-apiserver"))
            return
        except errors.ApiError as error:
            if not errors.is_already_exists(error):
                raise

    async def mutate(obj: Object) -> Change:
        obj["data"] = {**(obj.get("data") or {}), **data}
        return Change(obj)

    await store.change("kube-system", CONFIG_MAP, mutate)
