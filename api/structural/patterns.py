"""Regular expressions of schemas and of CEL: RE2, as upstream has it.

Anybody who may define a kind may give the server an expression, and anybody who may create an object a text to match it with. Python's own engine
backtracks and could be kept busy for ever; RE2 takes time that grows with the text only, and its syntax is what manifests are written in.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

#: Memory that a compiled expression may take.
_MAX_BYTES = 1 << 20


@lru_cache(maxsize=2048)
def compile_pattern(pattern: str) -> Any:
    """Compile; has `search`. ValueError for what is no regular expression, or too big a one."""
    import re2

    options = re2.Options()
    options.max_mem = _MAX_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        words = error.args[0] if error.args else ""
        raise ValueError(f"error parsing regexp: {words.decode() if isinstance(words, bytes) else words}") from None
