"""Running nft: a script is one transaction."""

from __future__ import annotations

import asyncio

import orjson

from kubeling.kubeproxy.nftwatch import NftWatch


class Table:
    """One table of ours (`inet kubeling-proxy`), changed by scripts; `watch` is told, so that it knows our changes from others'."""

    def __init__(self, name: str, watch: NftWatch | None = None) -> None:
        self.name = name.partition(" ")[2]
        self._watch = watch

    async def apply(self, script: str) -> None:
        """Apply `script` in one transaction. Raises OSError with nft's own words."""
        if self._watch is not None:
            self._watch.expect(self.name)
        code, words = await run(["nft", "-f", "-"], script.encode())
        if code != 0:
            if self._watch is not None:
                self._watch.refused(self.name)
            raise OSError(code, f"nft refused the rules: {words}")

    async def members(self, prefix: str) -> dict[str, dict[str, int]]:
        """Set → element → seconds until it ends, of the sets whose names begin so. Empty where there is no table, or nft does not say."""
        process = await asyncio.create_subprocess_exec(
            "nft",
            "-j",
            "list",
            "sets",
            "table",
            "inet",
            self.name,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            return {}
        sets = [
            each["set"] for each in orjson.loads(said)["nftables"] if "set" in each and each["set"]["name"].startswith(prefix)
        ]
        return {
            each["name"]: {
                element["elem"]["val"]: element["elem"]["expires"] for element in each.get("elem") or () if "elem" in element
            }
            for each in sets
        }


async def run(command: list[str], given: bytes = b"") -> tuple[int, str]:
    """Exit code and what was said on standard error (cut at 2,000 characters)."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate(given)
    return process.returncode or 0, words.decode(errors="replace").strip()[:2000]
