"""A folder's build: what the folders below give, what is generated, and the changes, in kustomize's order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kubeling.api.meta import copy_json
from kubeling.cli.kustomization import generators, order, patches, references, transformers
from kubeling.cli.kustomization.loading import Folder, known, objects, warnings
from kubeling.cli.kustomization.problems import KustomizationError
from kubeling.cli.kustomization.resource import Resource

Obj = dict[str, Any]
_LOCAL = "config.kubernetes.io/local-config"
_MAX_OBJECTS = 100_000


class Build:
    """One build. `said` are warnings about old fields; where it is not `restricted`, files may be anywhere."""

    def __init__(self, *, restricted: bool = True) -> None:
        self.said: list[str] = []
        self._restricted = restricted

    def objects(self, path: str) -> list[Obj]:
        """What the folder comes to. Raises KustomizationError."""
        root = Path(os.path.realpath(path))
        if not root.exists():
            raise KustomizationError(f"must build at directory: not a valid directory: '{path}' is not there")
        if not root.is_dir():
            raise KustomizationError(f"must build at directory: '{root}': file is not directory")
        folder = Folder(root, restricted=self._restricted)
        said = folder.kustomization()
        if said.get("kind") == "Component":
            raise KustomizationError("a Component cannot be built by itself")
        resources = self._accumulate(folder, said, [])
        generators.add_hashes(resources)
        references.follow(resources)
        return [each.obj for each in _sorted(resources, said.get("sortOptions")) if not _is_local(each)]

    def _accumulate(self, folder: Folder, said: Obj, resources: list[Resource]) -> list[Resource]:
        self.said += warnings(said)
        for name in (*(said.get("resources") or ()), *(said.get("bases") or ())):
            self._add(folder, str(name), resources)
        for name in said.get("components") or ():
            resources = self._component(folder, str(name), resources)
        common = said.get("generatorOptions") or {}
        generators.absorb(resources, generators.config_maps(said.get("configMapGenerator") or (), common, folder))
        generators.absorb(resources, generators.secrets(said.get("secretGenerator") or (), common, folder))
        return _changed(folder, said, resources)

    def _add(self, folder: Folder, name: str, resources: list[Resource]) -> None:
        if folder.is_folder(name):
            below = folder.below(name)
            said = below.kustomization()
            if said.get("kind") == "Component":
                raise KustomizationError(f"expected kind != 'Component' for path '{below.root}'")
            made = self._accumulate(below, said, [])
        else:
            made = [Resource(obj) for obj in objects(folder.text(name), name)]
        for each in made:
            twin = next((other for other in resources if other.id.equals(each.id)), None)
            if twin is not None:
                raise KustomizationError(
                    f"accumulating resources from '{name}': may not add resource with an already registered id: {each.id}"
                )
            resources.append(each)
        if len(resources) > _MAX_OBJECTS:
            raise KustomizationError(f"more than {_MAX_OBJECTS} objects")

    def _component(self, folder: Folder, name: str, resources: list[Resource]) -> list[Resource]:
        if not folder.is_folder(name):
            raise KustomizationError(f"accumulating components: '{folder.root / name}' is not a folder")
        below = folder.below(name)
        said = below.kustomization()
        if said.get("kind") != "Component":
            raise KustomizationError(
                f"accumulating components: expected kind 'Component' for path '{below.root}' but got 'Kustomization'"
            )
        return self._accumulate(below, said, resources)


def _changed(folder: Folder, said: Obj, resources: list[Resource]) -> list[Resource]:
    resources = patches.apply_strategic(resources, said.get("patchesStrategicMerge") or (), folder)
    resources = patches.apply(resources, said.get("patches") or (), folder)
    if said.get("namespace"):
        transformers.set_namespace(resources, said["namespace"])
    if said.get("namePrefix") or said.get("nameSuffix"):
        transformers.add_prefix(resources, said.get("namePrefix") or "", said.get("nameSuffix") or "")
    transformers.add_labels(resources, said.get("labels") or (), said.get("commonLabels") or {})
    transformers.add_annotations(resources, said.get("commonAnnotations") or {})
    resources = patches.apply_json(resources, said.get("patchesJson6902") or (), folder)
    transformers.set_replicas(resources, said.get("replicas") or ())
    transformers.set_images(resources, said.get("images") or ())
    return resources


def _is_local(resource: Resource) -> bool:
    """Whether it is for the build only."""
    return _LOCAL in resource.text_maps[1] and resource.text_maps[1][_LOCAL] != "false"


def _sorted(resources: list[Resource], said: Any) -> list[Resource]:
    options = known(said or {}, "sortOptions", "order", "legacySortOptions")
    wanted = options.get("order") or "legacy"
    if wanted not in ("legacy", "fifo"):
        raise KustomizationError("the field 'sortOptions.order' must be one of [fifo, legacy]")
    if wanted == "fifo":
        return resources
    lists = known(options.get("legacySortOptions") or {}, "legacySortOptions", "orderFirst", "orderLast")
    if not lists:
        return order.legacy(resources)
    return order.legacy(resources, lists.get("orderFirst") or (), lists.get("orderLast") or ())


def build(path: str, *, restricted: bool = True) -> tuple[list[Obj], list[str]]:
    """The objects of a folder, and what is to be said of its files. Raises KustomizationError."""
    made = Build(restricted=restricted)
    return [copy_json(each) for each in made.objects(path)], made.said
