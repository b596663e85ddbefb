"""The flags that every kubectl verb takes, wherever they stand on the line: before the verb, behind it, between its arguments."""

from __future__ import annotations

from dataclasses import dataclass


class UsageError(Exception):
    """The line cannot be read; the text is what the user sees after "error: "."""


@dataclass(slots=True)
class Options:
    """Their values; None is what the kubeconfig says."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    server: str | None = None
    token: str | None = None


#: Set once by :func:`take`, before the verb is parsed.
options = Options()

_FLAGS = {
    "--kubeconfig": "kubeconfig",
    "--context": "context",
    "--namespace": "namespace",
    "-n": "namespace",
    "--server": "server",
    "-s": "server",
    "--token": "token",
}


def take(argv: list[str]) -> list[str]:
    """Take the global flags out of `argv` (up to a bare ``--``) and remember them; returns the rest. Raises UsageError."""
    rest: list[str] = []
    at = 0
    while at < len(argv):
        word = argv[at]
        if word == "--":
            return rest + argv[at:]
        at += 1
        name, has_value, value = word.partition("=")
        if name[:2] in _FLAGS and name[1:2] != "-" and word not in _FLAGS:
            name, has_value, value = word[:2], "=", word[2:].removeprefix("=")
        if name not in _FLAGS:
            rest.append(word)
            continue
        if not has_value:
            if at >= len(argv):
                raise UsageError(f"flag needs an argument: {word}")
            value = argv[at]
            at += 1
        setattr(options, _FLAGS[name], value)
    return rest
