"""Images as volumes (KEP-4639): a mount that names an image shows its files, read-only and not to be executed.

The layers are put over each other in a folder of the container's own, by hard links where that is possible: it costs no space, and an image that is removed
meanwhile takes nothing away. The folder goes with the container.
"""

from __future__ import annotations

from kubeling.crilite import layers
from kubeling.crilite.core import Core
from kubeling.crilite.errors import InvalidArgument, NotFound
from kubeling.crilite.records import Container


def prepare(core: Core, container: Container) -> None:
    """Make the folders of all such mounts of `container`, and name them in its config as what is to be mounted. Raises CriError or OSError."""
    for number, mount in enumerate(container.config.mounts):
        name = mount.image.image
        if not name:
            continue
        if mount.host_path:
            raise InvalidArgument(f"mount {mount.container_path}: a path or an image, not both")
        image = core.images.find(name)
        if image is None:
            raise NotFound(f"image {name!r} of mount {mount.container_path} is not present")
        core.images.must_be_allowed(image, mount.image.user_specified_image or name)
        if not image.layers:
            raise InvalidArgument(f"mount {mount.container_path}: {name} is a view of the node's own files and no volume")
        folder = core.container_records.path(container.id, "images", str(number))
        below = [str(core.images.content.layers / layer) for layer in image.layers]
        layers.flatten(below, folder, userxattr=core.images.content.userxattr, link=True)
        mount.host_path, mount.readonly = folder, True
