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
from kubeling.cli.session import CommandError, Obj, Session, words_of
from kubeling.cli.targets import chosen, targets_of
from kubeling.cli.threeway import patch_type_of, schema_of, three_way

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
    for resource, live in objects:
        meta = live["metadata"]
        original = output.without_managed_fields(live)
        edited = _in_editor(write_yaml(original), resource, meta["name"])
        if edited is None:
            print("Edit cancelled, no changes made.")
            continue
        text, wanted = edited
        patch = three_way(original, original, wanted, schema_of(resource))
        if not patch:
            print("Edit cancelled, no changes made.")
            continue
        try:
            made = await session.client.patch(
                resource, meta["name"], patch, meta.get("namespace"), patch_type=patch_type_of(resource), params=params
            )
        except ApiError as error:
            kept = Path(tempfile.gettempdir()) / f"kubeling-edit-{meta['uid'][:8]}.yaml"
            kept.write_text(text)
            print(f'{words_of(error)}\nA copy of your changes has been stored to "{kept}"', file=sys.stderr)
            return 1
        reporter.done(resource, made, "edited")
    return 0


def _in_editor(before: str, resource: Resource, name: str) -> tuple[str, Obj] | None:
    """The edited text and the object that it holds; None where nothing was changed."""
    editor = os.environ.get("KUBE_EDITOR") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="kubeling-edit-") as folder:
        file = Path(folder) / f"{resource.plural}-{name}.yaml"
        file.write_text(_HEAD + before)
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CommandError(f"the editor {editor!r} failed: {error}. Name another in KUBE_EDITOR") from error
        text = file.read_text()
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    if not body.strip() or body == before:
        return None
    found = list(manifests.parse(body, "the edited file"))
    if len(found) != 1:
        raise CommandError("the edited file must hold one object")
    return body, found[0]
