"""The way to the supervisor of the cluster: one JSON object a line, over the Unix socket that only its owner may open.

Each question has a connection of its own, so that one that waits for news is in nobody's way.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from kubeling.cloud.provider import Obj, ProviderError
from kubeling.daemon.unixpath import short_path

_LIMIT = 1024 * 1024
#: What a change may take (seconds): the nodes of a group are all booted at once.
CHANGE_SECONDS = 60.0
ASK_SECONDS = 10.0


class Supervisor:
    """Asks operations of the control socket at `path`."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    async def ask(self, op: str, seconds: float = ASK_SECONDS, **values: Any) -> Obj:
        """The answer. ProviderError where it is a refusal, or there is none within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange({"op": op, **values})
        except TimeoutError as error:
            raise ProviderError(f"the supervisor has not answered {op!r} within {seconds:.0f} s") from error
        except (OSError, ValueError) as error:
            raise ProviderError(f"the supervisor does not answer at {self._path}: {error}") from error

    async def _exchange(self, request: Obj) -> Obj:
        with short_path(self._path.parent) as folder:
            reader, writer = await asyncio.open_unix_connection(f"{folder}/{self._path.name}", limit=_LIMIT)
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            while line := await reader.readline():
                message: Obj = json.loads(line)
                if message.get("ok") is False:
                    raise ProviderError(str(message["error"]))
                if "ok" in message:
                    return message
        finally:
            writer.close()
        raise ProviderError("the supervisor hung up")
