"""`etcd snapshot save|status|restore`: backups of a store. The store's own program does it; flags and words are its."""

from __future__ import annotations

import subprocess
import sys

import typer

#: What is behind the verb is for the program; also --help.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": list[str]()}


def snapshot(context: typer.Context) -> None:
    """Backups in etcd's own format: save FILE --endpoints HOST:PORT, status FILE, restore FILE --data-dir DIR."""
    command = [sys.executable, "-m", "kubeling.etcdlite.backup_tool", *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def register(app: typer.Typer) -> None:
    """Add `etcd` to `app`."""
    group = typer.Typer(help="A cluster's store.", no_args_is_help=True)
    group.callback()(lambda: None)
    group.command("snapshot", context_settings=_PASSED_ON)(snapshot)
    app.add_typer(group, name="etcd", rich_help_panel="Clusters")
