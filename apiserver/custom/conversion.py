"""Between the versions of a custom resource: by changing apiVersion alone, or by asking a webhook."""

from __future__ import annotations

from typing import Protocol

from kubeling.api.meta import Object


class Converter(Protocol):
    """One kind's way from version to version."""

    async def convert(self, objs: list[Object], group_version: str) -> list[Object]:
        """The objects in another version, in the same order; theirs may be changed. Raises ApiError."""


class Renaming:
    """The strategy None: the versions differ in name only."""

    async def convert(self, objs: list[Object], group_version: str) -> list[Object]:
        return [{**each, "apiVersion": group_version} for each in objs]
