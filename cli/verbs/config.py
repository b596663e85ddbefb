"""`config`: the kubeconfig itself, seen and changed. No server is asked.

Where $KUBECONFIG names several files they are seen as one. An entry is changed in the file that has it, and a new one goes into the first file that is there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kubeling.cli import flags, output
from kubeling.cli.globalflags import options
from kubeling.cli.kubeconfigs import SECTIONS, Kubeconfigs
from kubeling.cli.session import CommandError

Obj = dict[str, Any]
Name = Annotated[list[str] | None, typer.Argument(metavar="NAME")]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Names only, without the line above.")]
Embed = Annotated[bool, typer.Option("--embed-certs/--no-embed-certs", help="Put the files' contents in, not their names.")]
_SECRETS = {
    "certificate-authority-data": "DATA+OMITTED",
    "client-certificate-data": "DATA+OMITTED",
    "client-key-data": "DATA+OMITTED",
    "token": "REDACTED",
    "password": "REDACTED",
}


def _files() -> Kubeconfigs:
    return Kubeconfigs(options.kubeconfig)


def _one(names: list[str] | None, usage: str) -> str:
    if not names or len(names) != 1:
        raise CommandError(f"unexpected args: {names or []}\nusage: kubeling config {usage}")
    return names[0]


def view(
    form: flags.Output = "yaml",
    raw: Annotated[bool, typer.Option("--raw", help="With the secrets in it.")] = False,
    minify: Annotated[bool, typer.Option("--minify", help="Only what the current context needs.")] = False,
    flatten: Annotated[bool, typer.Option("--flatten", help="With the contents of the files that it names.")] = False,
    merge: Annotated[str, typer.Option("--merge", help="false: each file by itself is of no interest here.")] = "true",
) -> int:
    """Show the kubeconfig, all files as one: `kubeling config view --minify --flatten`."""
    found = _files()
    document = found.document(flatten=flatten)
    if options.context:
        document["current-context"] = options.context
    if minify:
        document = _minified(document)
    if not raw:
        for section in ("clusters", "users"):
            for entry in document[section] or []:
                body = entry[SECTIONS[section]]
                body |= {key: word for key, word in _SECRETS.items() if key in body}
    sys.stdout.write(output.printer(form)(document))
    return 0


def _minified(document: Obj) -> Obj:
    current = document["current-context"]
    if not current:
        raise CommandError("current-context must exist in order to minify")
    context = next((each for each in document["contexts"] or [] if each["name"] == current), None)
    if context is None:
        raise CommandError(f"cannot locate context {current}")
    kept = {"contexts": current, "clusters": context["context"].get("cluster"), "users": context["context"].get("user")}
    for section, name in kept.items():
        document[section] = [each for each in document[section] or [] if each["name"] == name] or None
    return document


def get_contexts(names: Name = None, no_headers: NoHeaders = False, form: flags.Output = "") -> int:
    """The contexts; a star marks the current one."""
    if form not in ("", "name"):
        raise CommandError("output must be one of '' or 'name': " + form)
    found = _files()
    contexts = found.entries("contexts")
    status = 0
    chosen = names or sorted(contexts)
    for name in [each for each in chosen if each not in contexts]:
        print(f"error: context {name} not found", file=sys.stderr)
        status = 1
    chosen = [each for each in chosen if each in contexts]
    if form == "name":
        print("".join(f"{name}\n" for name in chosen), end="")
        return status
    rows = [] if no_headers else [["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]]
    for name in chosen:
        body = contexts[name]
        mark = "*" if name == found.current else ""
        rows.append([mark, name, *(str(body.get(key, "")) for key in ("cluster", "user", "namespace"))])
    sys.stdout.write(output.align(rows))
    return status


def get_clusters() -> int:
    """The names of the clusters."""
    return _names("clusters")


def get_users() -> int:
    """The names of the users."""
    return _names("users")


def _names(section: str) -> int:
    print("\n".join(["NAME", *sorted(_files().entries(section))]))
    return 0


def current_context() -> int:
    """The name of the current context."""
    current = _files().current
    if not current:
        raise CommandError("current-context is not set")
    print(current)
    return 0


def use_context(names: Name = None) -> int:
    """Make a context the current one: `kubeling config use-context kubeling-dev`."""
    name, found = _one(names, "use-context NAME"), _files()
    if name not in found.entries("contexts"):
        raise CommandError(f'no context exists with the name: "{name}"')
    found.set_current(name)
    print(f'Switched to context "{name}".')
    return 0


def set_context(
    names: Name = None,
    current: Annotated[bool, typer.Option("--current", help="Change the current context.")] = False,
    cluster: Annotated[str | None, typer.Option("--cluster", help="The cluster's name.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="The user's name.")] = None,
    namespace: Annotated[str | None, typer.Option("-n", "--namespace", help="The namespace where none is given.")] = None,
) -> int:
    """Make or change a context: `kubeling config set-context --current --namespace=web`."""
    found = _files()
    if current == bool(names):
        raise CommandError("you must specify a NAME or --current, and not both")
    name = found.current if current else _one(names, "set-context NAME")
    if not name:
        raise CommandError("no current context is set")
    given = {"cluster": cluster, "user": user, "namespace": namespace}
    there = found.put("contexts", name, {key: value for key, value in given.items() if value is not None})
    print(f'Context "{name}" {"modified" if there else "created"}.')
    return 0


def set_cluster(
    names: Name = None,
    server: Annotated[str | None, typer.Option("--server", help="The URL of the API.")] = None,
    authority: Annotated[str | None, typer.Option("--certificate-authority", help="A file with its CA.")] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure-skip-tls-verify/--no-insecure-skip-tls-verify", help="Trust any certificate.")
    ] = None,
    tls_server_name: Annotated[str | None, typer.Option("--tls-server-name", help="Its name in its certificate.")] = None,
    proxy_url: Annotated[str | None, typer.Option("--proxy-url", help="A proxy before it.")] = None,
    embed: Embed = False,
) -> int:
    """Make or change a cluster: `kubeling config set-cluster far --server=https://far:6443 --certificate-authority=ca.crt`."""
    name = _one(names, "set-cluster NAME")
    body: Obj = {"server": server, "tls-server-name": tls_server_name, "proxy-url": proxy_url}
    if insecure is not None:
        body["insecure-skip-tls-verify"] = True if insecure else ""
        if insecure:
            body |= {"certificate-authority": "", "certificate-authority-data": ""}
    if authority is not None:
        body |= _file("certificate-authority", authority, embed) | {"insecure-skip-tls-verify": ""}
    _files().put("clusters", name, {key: value for key, value in body.items() if value is not None})
    print(f'Cluster "{name}" set.')
    return 0


def set_credentials(
    names: Name = None,
    token: Annotated[str | None, typer.Option("--token", help="A bearer token.")] = None,
    username: Annotated[str | None, typer.Option("--username")] = None,
    password: Annotated[str | None, typer.Option("--password")] = None,
    certificate: Annotated[str | None, typer.Option("--client-certificate", help="A file.")] = None,
    key: Annotated[str | None, typer.Option("--client-key", help="A file.")] = None,
    embed: Embed = False,
    exec_command: Annotated[str | None, typer.Option("--exec-command", help="A program that hands out credentials.")] = None,
    exec_api_version: Annotated[str | None, typer.Option("--exec-api-version", help="Of what the program writes.")] = None,
    exec_arg: Annotated[list[str] | None, typer.Option("--exec-arg", help="Its argument; may be repeated.")] = None,
    exec_env: Annotated[list[str] | None, typer.Option("--exec-env", help="KEY=VALUE, or KEY- ; may be repeated.")] = None,
    interactive: Annotated[str | None, typer.Option("--exec-interactive-mode", help="Never, IfAvailable or Always.")] = None,
) -> int:
    """Make or change a user: `kubeling config set-credentials eve --token=…`."""
    name, found = _one(names, "set-credentials NAME"), _files()
    if token and (username or password):
        raise CommandError(
            "you cannot specify more than one authentication method at the same time: --token or --username/--password"
        )
    body: Obj = {"token": token, "username": username, "password": password}
    if token:
        body |= {"username": "", "password": ""}
    elif username or password:
        body["token"] = ""
    for flag, path in (("client-certificate", certificate), ("client-key", key)):
        body |= _file(flag, path, embed) if path is not None else {}
    if any(each is not None for each in (exec_command, exec_api_version, exec_arg, exec_env, interactive)):
        before = found.entries("users").get(name, {}).get("exec") or {}
        plugin = {"command": exec_command, "apiVersion": exec_api_version, "interactiveMode": interactive}
        body["exec"] = {**before, **{each: value for each, value in plugin.items() if value is not None}}
        words = [word for each in exec_arg or [] for word in each.split(",")]
        body["exec"] |= {"args": words or before.get("args"), "env": _environment(before.get("env") or [], exec_env or [])}
    found.put("users", name, {each: value for each, value in body.items() if value is not None})
    print(f'User "{name}" set.')
    return 0


def _environment(before: list[Obj], changes: list[str]) -> list[Obj] | None:
    values = {each["name"]: each.get("value", "") for each in before}
    for change in [word for each in changes for word in each.split(",")]:
        key, has_value, value = change.partition("=")
        if has_value:
            values[key] = value
        elif change.endswith("-"):
            values.pop(change[:-1], None)
        else:
            raise CommandError(f"error parsing {change!r}: write KEY=VALUE, or KEY- to take it away")
    return [{"name": key, "value": value} for key, value in values.items()] or None


def _file(key: str, path: str, embed: bool) -> Obj:
    """The two fields that a file may be in: its name, or what is in it."""
    if not path:
        return {key: "", f"{key}-data": ""}
    if not embed:
        return {key: str(Path(path).absolute()), f"{key}-data": ""}
    import base64

    try:
        return {key: "", f"{key}-data": base64.b64encode(Path(path).read_bytes()).decode()}
    except OSError as error:
        raise CommandError(f"could not stat {key} file {path}: {error.strerror}") from error


def delete_context(names: Name = None) -> int:
    """Take a context away."""
    found = _files()
    name = _one(names, "delete-context NAME")
    active = found.current == name
    _delete(found, "contexts", name)
    if active:
        print(
            'warning: this removed your active context, use "kubeling config use-context" to select a different one',
            file=sys.stderr,
        )
    return 0


def delete_cluster(names: Name = None) -> int:
    """Take a cluster away."""
    return _delete(_files(), "clusters", _one(names, "delete-cluster NAME"))


def delete_user(names: Name = None) -> int:
    """Take a user away."""
    return _delete(_files(), "users", _one(names, "delete-user NAME"))


def _delete(found: Kubeconfigs, section: str, name: str) -> int:
    singular = SECTIONS[section]
    file = found.remove(section, name)
    if file is None:
        raise CommandError(f"cannot delete {singular} {name}, not in {found.default}")
    print(f"deleted {singular} {name} from {file}")
    return 0


def rename_context(names: Name = None) -> int:
    """Give a context another name: `kubeling config rename-context old new`."""
    if not names or len(names) != 2:
        raise CommandError("rename-context needs the old name and the new one")
    found, (old, new) = _files(), names
    contexts = found.entries("contexts")
    if old not in contexts:
        raise CommandError(f'cannot rename the context "{old}", it\'s not in {found.default}')
    if new in contexts:
        raise CommandError(f'cannot rename the context "{old}", the context "{new}" already exists in {found.default}')
    found.rename("contexts", old, new)
    print(f'Context "{old}" renamed to "{new}".')
    return 0


def set_property(
    words: Annotated[list[str] | None, typer.Argument(metavar="PROPERTY VALUE")] = None,
    raw_bytes: Annotated[bool, typer.Option("--set-raw-bytes", help="The value is written as base64.")] = False,
) -> int:
    """Set one field: `kubeling config set contexts.dev.namespace web`."""
    if not words or len(words) != 2:
        raise CommandError("set needs a property and a value, such as contexts.dev.namespace web")
    import base64

    path, value = words
    _files().set_path(path, base64.b64encode(value.encode()).decode() if raw_bytes else value)
    print(f'Property "{path}" set.')
    return 0


def unset_property(words: Annotated[list[str] | None, typer.Argument(metavar="PROPERTY")] = None) -> int:
    """Take one field away: `kubeling config unset contexts.dev.namespace`."""
    path = _one(words, "unset PROPERTY")
    _files().set_path(path, None)
    print(f'Property "{path}" unset.')
    return 0
