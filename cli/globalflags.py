"""The flags that every kubectl verb takes, wherever they stand on the line: before the verb, behind it, between its arguments."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


class UsageError(Exception):
    """The line cannot be read; the text is what the user sees after "error: "."""


@dataclass(slots=True)
class Options:
    """Their values; None is what the kubeconfig says."""

    kubeconfig: str | None = None
    context: str | None = None
    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None
    server: str | None = None
    token: str | None = None
    username: str | None = None
    password: str | None = None
    certificate_authority: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    tls_server_name: str | None = None
    insecure_skip_tls_verify: str | None = None
    request_timeout: str | None = None
    warnings_as_errors: str | None = None
    show_managed_fields: str | None = None
    template: str | None = None
    as_user: str | None = None
    as_uid: str | None = None
    as_group: list[str] = field(default_factory=list)
    as_user_extra: list[str] = field(default_factory=list)


#: Set once by :func:`take`, before the verb is parsed.
options = Options()

_SHORT = {"-n": "--namespace", "-s": "--server", "-v": "--v"}
#: Those that need no value.
_SWITCHES = frozenset(
    (
        "--insecure-skip-tls-verify",
        "--warnings-as-errors",
        "--match-server-version",
        "--disable-compression",
        "--show-managed-fields",
        "--allow-missing-template-keys",
    )
)
#: Taken, and without a meaning here: what we cache and log is not kubectl's.
_IGNORED = frozenset(
    (
        "--match-server-version",
        "--disable-compression",
        "--allow-missing-template-keys",
        "--cache-dir",
        "--kuberc",
        "--v",
        "--vmodule",
        "--log-flush-frequency",
        "--profile",
        "--profile-output",
    )
)
_FLAGS = {"--as": "as_user"} | {
    f"--{each.name.replace('_', '-')}": each.name for each in fields(Options) if each.name != "as_user"
}
_CONNECTION = ("cluster", "user", "namespace", "server", "token", "username", "password", "certificate-authority")
#: Verbs whose own flags have these names.
_OWN = {
    "config": frozenset(f"--{each}" for each in _CONNECTION)
    | {"--client-certificate", "--client-key", "--tls-server-name", "--insecure-skip-tls-verify", "--disable-compression"},
    "create": frozenset(("--user",)),
    "set": frozenset(("--user",)),
    "debug": frozenset(("--profile",)),
}


def take(argv: list[str]) -> list[str]:
    """Take the global flags out of `argv` (up to a bare ``--``) and remember them; returns the rest. Raises UsageError."""
    rest: list[str] = []
    own: frozenset[str] = frozenset()
    at = 0
    while at < len(argv):
        word = argv[at]
        if word == "--":
            break
        at += 1
        name, has_value, value = word.partition("=")
        if word[:2] in _SHORT:
            name, has_value, value = _SHORT[word[:2]], word[2:], word[2:].removeprefix("=")
        if name in own or (name not in _FLAGS and name not in _IGNORED):
            if not rest and not word.startswith("-"):
                own = _OWN.get(word, own)
            rest.append(word)
            continue
        if not has_value and name in _SWITCHES:
            value = "true"
        elif not has_value:
            if at >= len(argv):
                raise UsageError(f"flag needs an argument: {word}")
            value = argv[at]
            at += 1
        _remember(name, value)
    return _with_template(rest) + argv[at:]


def _with_template(words: list[str]) -> list[str]:
    """`-o go-template --template=…` as `-o go-template=…`, which is also what a template alone means."""
    if options.template is None:
        return words
    for at, word in enumerate(words):
        form = word.removeprefix("--output=") if word.startswith("--output=") else word[2:].removeprefix("=")
        if word in ("-o", "--output") and at + 1 < len(words):
            return [*words[: at + 1], _filled(words[at + 1]), *words[at + 2 :]]
        if word.startswith(("--output=", "-o")):
            return [*words[:at], f"--output={_filled(form)}", *words[at + 1 :]]
    return [*words, f"--output=go-template={options.template}"]


def _filled(form: str) -> str:
    return f"{form}={options.template}" if form.startswith(("go-template", "template", "jsonpath")) and "=" not in form else form


def _remember(name: str, value: str) -> None:
    if name in _IGNORED:
        return
    before = getattr(options, _FLAGS[name])
    setattr(options, _FLAGS[name], [*before, *value.split(",")] if isinstance(before, list) else value)
