"""What a kubelet must remember and nobody else knows: JSON in a file, with a checksum, replaced whole.

A file that is torn, or that another program has changed, is put aside and reported, and begun anew: better a resource that is given out anew than a kubelet
that does not start.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from kubeling.daemon.log import get_logger

log = get_logger("kubelet.checkpoint")


def load(path: Path) -> Any:
    """What was saved last; None where nothing was, or what is there cannot be believed."""
    try:
        raw = json.loads(path.read_bytes())
        data = raw["data"]
        if raw["checksum"] != _checksum(data):
            raise ValueError("the checksum does not fit")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("a checkpoint cannot be read and is begun anew", file=str(path), error=str(error))
        try:
            os.replace(path, path.with_name(path.name + ".broken"))
        except OSError as failed:
            log.warning("it could not be put aside", file=str(path), error=str(failed))
        return None
    return data


def save(path: Path, data: Any) -> None:
    """Write it so that a crash leaves either this or what was there before. Raises OSError."""
    text = json.dumps({"checksum": _checksum(data), "data": data}, sort_keys=True)
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _checksum(data: Any) -> int:
    return zlib.crc32(json.dumps(data, sort_keys=True).encode())
