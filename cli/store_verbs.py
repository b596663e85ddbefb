"""`etcd snapshot save|status|restore` and `etcd ctl`: a cluster's store, and backups of it.

The backups are the work of the store's own program; flags and words are its. What is asked of a running cluster is asked out of the network namespace of one of its members.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import typer

from kubeling.cli.cluster_verbs import DEFAULT, Name, plain_errors

#: What is behind the verb is for the program; also --help.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": list[str]()}


def snapshot(context: typer.Context, name: Name = DEFAULT) -> None:
    """Backups in etcd's own format: save FILE, of the cluster's store or of the one at --endpoints HOST:PORT; status FILE; restore FILE --data-dir DIR."""
    command = [sys.executable, "-m", "kubeling.etcdlite.backup_tool", *context.args]
    if context.args[:1] == ["save"] and not any(one.startswith(("--endpoints", "--help")) for one in context.args):
        from kubeling.cluster import store

        with plain_errors():
            found = store.reach(name)
        command = [*found.prefix, *command, f"--endpoints={found.endpoint}"]
        command += [f"--cacert={found.ca}", f"--cert={found.cert}", f"--key={found.key}"]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def ctl(context: typer.Context, name: Name = DEFAULT) -> None:
    """etcdctl, where it is installed, on the cluster's store: `etcd ctl get /registry --prefix --keys-only`."""
    program = shutil.which("etcdctl")
    if program is None:
        print("error: etcdctl is not installed: on Debian and Ubuntu it is in the package etcd-client", file=sys.stderr)
        raise typer.Exit(1)
    from kubeling.cluster import store

    with plain_errors():
        found = store.reach(name)
    command = [*found.prefix, program, f"--endpoints={found.endpoint}"]
    command += [f"--cacert={found.ca}", f"--cert={found.cert}", f"--key={found.key}", *context.args]
    raise typer.Exit(subprocess.run(command, check=False, env=os.environ | {"ETCDCTL_API": "3"}).returncode)


def register(app: typer.Typer) -> None:
    """Add `etcd` to `app`."""
    group = typer.Typer(help="A cluster's store.", no_args_is_help=True)
    group.callback()(lambda: None)
    group.command("snapshot", context_settings=_PASSED_ON)(snapshot)
    group.command("ctl", context_settings=_PASSED_ON)(ctl)
    app.add_typer(group, name="etcd", rich_help_panel="Clusters")
