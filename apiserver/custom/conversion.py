"""Between the versions of a custom resource: by changing apiVersion alone, or by asking a webhook.

A webhook is asked for all objects of a list at once. It may change what it likes but who the object is: of the metadata, labels and annotations alone are
taken from its answer. What it does not answer in time, or answers wrongly, is an internal error; nothing is stored then, and nothing shown unconverted.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from kubeling.api import errors
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object
from kubeling.api.structural.definition import Definition
from kubeling.apiserver.custom.converted import Converted
from kubeling.apiserver.outbound import Caller, CallFailed
from kubeling.apiserver.targets import Targets

TIMEOUT_SECONDS = 30
#: Objects in one call: an answer is bounded, and lists can be long.
_BATCH = 500
_GROUP = "apiextensions.k8s.io"
_REVIEW_VERSIONS = ("v1", "v1beta1")
_SHOWN = 512


class Converter(Protocol):
    """One kind's way from version to version."""

    async def convert(self, objs: list[Object], group_version: str) -> list[Object]:
        """The objects in another version, in the same order; theirs may be changed. Raises ApiError."""

    async def convert_stored(self, objs: list[Object], group_version: str) -> list[Object]:
        """The same for objects just as they are in the store, under their resourceVersion."""


class Renaming:
    """The strategy None: the versions differ in name only."""

    async def convert(self, objs: list[Object], group_version: str) -> list[Object]:
        return [{**each, "apiVersion": group_version} for each in objs]

    convert_stored = convert


class Webhook:
    """The strategy Webhook."""

    def __init__(self, definition: Definition, caller: Caller, targets: Targets) -> None:
        webhook = definition.conversion.get("webhook") or {}
        self._kind = definition.kind
        self._config: dict[str, Any] = webhook.get("clientConfig") or {}
        wanted = webhook.get("conversionReviewVersions") or ()
        self._review = next((each for each in wanted if each in _REVIEW_VERSIONS), "v1")
        self._caller = caller
        self._targets = targets
        self._converted = Converted()

    async def convert_stored(self, objs: list[Object], group_version: str) -> list[Object]:
        known = [self._converted.get(each, group_version) for each in objs]
        asked = [each for each, found in zip(objs, known, strict=True) if found is None]
        if asked:
            answers = await self.convert(asked, group_version)
            for each, found in zip(asked, answers, strict=True):
                self._converted.put(each, found)
            fresh = iter(answers)
            return [found if found is not None else next(fresh) for found in known]
        return [found for found in known if found is not None]

    async def convert(self, objs: list[Object], group_version: str) -> list[Object]:
        found: list[Object] = []
        for at in range(0, len(objs), _BATCH):
            found += await self._ask(objs[at : at + _BATCH], group_version)
        return found

    async def _ask(self, objs: list[Object], group_version: str) -> list[Object]:
        uid = str(uuid.uuid4())
        request = {"uid": uid, "desiredAPIVersion": group_version, "objects": objs}
        review = {"kind": "ConversionReview", "apiVersion": f"{_GROUP}/{self._review}", "request": request}
        try:
            target = await self._targets.of(self._config)
            answer = await self._caller.post(target, orjson.dumps(review), TIMEOUT_SECONDS, f"timeout={TIMEOUT_SECONDS}s")
        except CallFailed as error:
            url = self._config.get("url") or "the Service"
            raise self._failed(objs, f'Post "{url}": {error}') from error
        if answer.status != 200:
            text = answer.body[:_SHOWN].decode("utf-8", "replace").strip()
            raise self._failed(objs, text or f"the webhook answered with status {answer.status}")
        converted = self._read(answer.body, uid, objs)
        return [self._accepted(old, new, group_version) for old, new in zip(objs, converted, strict=True)]

    def _read(self, body: bytes, uid: str, objs: list[Object]) -> Sequence[Any]:
        """The objects of an answer."""
        try:
            review = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise self._failed(objs, f"the answer is no JSON: {error}") from error
        response = review.get("response") if isinstance(review, dict) else None
        if not isinstance(response, dict):
            raise self._failed(objs, "no response provided")
        if review.get("apiVersion") != f"{_GROUP}/{self._review}" or review.get("kind") != "ConversionReview":
            seen = f"{review.get('apiVersion')}, Kind={review.get('kind')}"
            raise self._failed(objs, f"expected webhook response of {_GROUP}/{self._review}, Kind=ConversionReview, got {seen}")
        if response.get("uid") != uid:
            raise self._failed(objs, f"expected response.uid={uid!r}, got {response.get('uid')!r}")
        result = response.get("result")
        result = result if isinstance(result, dict) else {}
        if result.get("status") != "Success":
            raise self._failed(objs, str(result.get("message") or "the webhook gave no reason"))
        converted = response.get("convertedObjects")
        if not isinstance(converted, list) or len(converted) != len(objs):
            number = len(converted) if isinstance(converted, list) else 0
            raise self._failed(objs, f"returned {number} objects, expected {len(objs)}")
        return converted

    def _accepted(self, old: Object, new: Any, group_version: str) -> Object:
        """What is taken of a converted object."""
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise self._failed([old], "returned an object without metadata")
        if new.get("apiVersion") != group_version or new.get("kind") != self._kind:
            seen = f"{new.get('apiVersion')}, Kind={new.get('kind')}"
            raise self._failed(
                [old], f"returned invalid converted object: expected {group_version}, Kind={self._kind}, got {seen}"
            )
        before, after = old["metadata"], new["metadata"]
        for field in ("name", "namespace", "uid"):
            if (after.get(field) or "") != (before.get(field) or ""):
                raise self._failed(
                    [old], f"returned invalid metadata: must have the same {field}: {before.get(field)!r} != {after.get(field)!r}"
                )
        metadata = {key: value for key, value in before.items() if key not in ("labels", "annotations")}
        for field in ("labels", "annotations"):
            found = after.get(field)
            if found is None:
                continue
            if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
                raise self._failed([old], f"returned invalid metadata: {field} are no map of strings")
            metadata[field] = found
        return {**new, "metadata": metadata}

    def _failed(self, objs: list[Object], why: str) -> ApiError:
        return errors.internal(f"conversion webhook for {objs[0]['apiVersion']}, Kind={self._kind} failed: {why}")
