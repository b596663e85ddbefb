"""The clouds by name. Out-of-tree ones register the entry point group `kubeling.cloud_providers`: a function (options, cluster) → provider."""

from __future__ import annotations

from collections.abc import Mapping

from kubeling.cloud.provider import Cluster, Factory, Provider

GROUP = "kubeling.cloud_providers"


def create(name: str, options: Mapping[str, str], cluster: Cluster) -> Provider:
    """The provider of that name. ValueError where there is none."""
    if name == "local":
        from kubeling.cloud.providers.local import LocalProvider

        return LocalProvider(options, cluster)
    from importlib.metadata import entry_points

    found = list(entry_points(group=GROUP, name=name))
    if not found:
        known = ", ".join(["local", *(each.name for each in entry_points(group=GROUP))])
        raise ValueError(f"no cloud provider is called {name!r}; there are: {known}")
    factory: Factory = found[0].load()
    return factory(options, cluster)
