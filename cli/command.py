"""How a verb becomes a command: its parameters as flags, read the way kubectl's flag library reads them.

Beyond what typer does, `--flag=true|false` and `-o=yaml` are understood, and so are flags whose value may be left out (`--dry-run` is
`--dry-run=client`); what follows `--` is never looked at.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand

#: What a flag means that is given without a value. Its value is never the next word.
_BARE = {"--dry-run": "client", "--validate": "strict", "--cascade": "background"}
_SHORT_WITH_EQUALS = re.compile(r"-[A-Za-z]=")


#: Flags of single verbs that are taken and have no meaning here, since what they tune is not there; with a `=` where they have a value.
_MEANINGLESS = {
    "describe": ("--chunk-size=",),
    "drain": ("--chunk-size=",),
    "attach": ("--pod-running-timeout=",),
    "exec": ("--pod-running-timeout=",),
    "logs": ("--pod-running-timeout=",),
    "proxy": ("--keepalive=",),
    "diff": ("--concurrency=",),
    "create": ("--windows-line-endings",),
    "edit": ("--windows-line-endings",),
    "api-resources": ("--cached",),
    "node": ("--use-protocol-buffers",),
    "pod": ("--use-protocol-buffers",),
    "apply": ("--openapi-patch",),
}


class KubectlCommand(TyperCommand):
    """A typer command that takes kubectl's spellings of flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._as_click(_meant(args, _MEANINGLESS.get(ctx.info_name or "", ()))))

    def _as_click(self, args: list[str]) -> list[str]:
        switches = {
            name: each for each in self.params if getattr(each, "is_flag", False) for name in (*each.opts, *each.secondary_opts)
        }
        rest: list[str] = []
        for at, word in enumerate(args):
            if word == "--":
                return rest + args[at:]
            name, has_value, value = word.partition("=")
            if word in _BARE:
                rest.append(f"{word}={_BARE[word]}")
            elif has_value and name in switches and value.lower() in ("true", "false", "1", "0", "t", "f"):
                flag = switches[name]
                rest += flag.opts[:1] if value.lower() in ("true", "1", "t") else flag.secondary_opts[:1]
            elif _SHORT_WITH_EQUALS.match(word):
                rest.append(word[:2] + word[3:])
            else:
                rest.append(word)
        return rest


def _meant(args: list[str], meaningless: tuple[str, ...]) -> list[str]:
    """The words without the flags that mean nothing."""
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            return [*rest, word, *words]
        name, has_value, _ = word.partition("=")
        if f"{name}=" in meaningless and not has_value:
            next(words, None)
        elif name not in meaningless and f"{name}=" not in meaningless:
            rest.append(word)
    return rest


class DashedCommand(KubectlCommand):
    """A command whose words keep the bare ``--``, for those that mean something else by what stands behind it."""

    def _as_click(self, args: list[str]) -> list[str]:
        found = super()._as_click(args)
        if "--" in found:
            found.insert(found.index("--"), "--")
        return found


def verb(body: Callable[..., Any]) -> Callable[..., None]:
    """Make a typer command function of a verb: its parameters are the flags and arguments.

    A coroutine function gets a Session as its first parameter. A plain function is for what needs no server.
    """
    signature = inspect.signature(body, eval_str=True)
    parameters = list(signature.parameters.values())
    online = inspect.iscoroutinefunction(body)
    if online:
        parameters = parameters[1:]

    def command(**given: Any) -> None:
        from kubeling.cli.session import run, run_offline

        sys.exit(run(lambda session: body(session, **given)) if online else run_offline(lambda: body(**given)))

    command.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__name__, command.__doc__ = body.__name__, body.__doc__
    return command
