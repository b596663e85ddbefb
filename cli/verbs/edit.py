"""`edit`: an object in the user's editor; what was changed is sent as a patch."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.cli import flags, manifests, output
from kubeling.cli.dialect import write_yaml
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import chosen, targets_of
from kubeling.cli.threeway import patch_type_of, schema_of, three_way
from kubeling.client.rest import Params

_HEAD = """# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit.
#
"""


async def edit(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    form: flags.Output = "",
    field_manager: flags.FieldManager = "kubectl-edit",
) -> int:
    """Change objects in your editor ($KUBE_EDITOR, $EDITOR, or vi)."""
    reporter = Reporter(form)
    params = flags.write_params("none", field_manager, "strict")
    objects = await chosen(session, await targets_of(session, words or [], filenames=filename or [], need_names=True))
    failed = 0
    for resource, live in objects:
        failed |= await _edit(session, resource, live, params, reporter)
    return failed


async def _edit(session: Session, resource: Resource, live: Obj, params: Params, reporter: Reporter) -> int:
    """One object, as often as the server refuses what was made of it; an editor that is left without a change gives up."""
    meta = live["metadata"]
    original = output.without_managed_fields(live)
    text, refused = write_yaml(original), ""
    while True:
        after = _in_editor(_HEAD + refused, text, resource, meta["name"])
        if after is None:
            if refused:
                kept = Path(tempfile.gettempdir()) / f"kubeling-edit-{meta['uid'][:8]}.yaml"
                kept.write_text(text)
                print(f'A copy of your changes has been stored to "{kept}"', file=sys.stderr)
                raise CommandError("Edit cancelled, no valid changes were saved.")
            print("Edit cancelled, no changes made.")
            return 0
        text = after
        try:
            wanted = _parsed(text)
            patch = three_way(original, original, wanted, schema_of(resource))
            if not patch:
                print("Edit cancelled, no changes made.")
                return 0
            made = await session.client.patch(
                resource, meta["name"], patch, meta.get("namespace"), patch_type=patch_type_of(resource), params=params
            )
        except ApiError as error:
            if error.reason not in ("Invalid", "BadRequest"):
                raise
            print(f'error: {resource.qualified} "{meta["name"]}" is invalid', file=sys.stderr)
            refused = _reasons(resource, meta["name"], error)
        except CommandError as error:
            print(error, file=sys.stderr)
            refused = f"# The edited file had a syntax error: {error}\n#\n"
        else:
            reporter.done(resource, made, "edited")
            return 0


def _reasons(resource: Resource, name: str, error: ApiError) -> str:
    lines = [f"* {cause.get('field', '')}: {cause.get('message', '')}" for cause in error.causes] or [f"* {error.message}"]
    return "".join(f"# {line}\n" for line in (f'{resource.qualified} "{name}" was not valid:', *lines)) + "#\n"


def _in_editor(head: str, before: str, resource: Resource, name: str) -> str | None:
    """The edited text without its comments; None where nothing was changed."""
    editor = os.environ.get("KUBE_EDITOR") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="kubeling-edit-") as folder:
        file = Path(folder) / f"{resource.plural}-{name}.yaml"
        file.write_text(head + before)
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CommandError(f"the editor {editor!r} failed: {error}. Name another in KUBE_EDITOR") from error
        text = file.read_text()
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    return None if not body.strip() or body == before else body


def _parsed(text: str) -> Obj:
    found = list(manifests.parse(text, "the edited file"))
    if len(found) != 1:
        raise CommandError("the edited file must hold one object")
    return found[0]
