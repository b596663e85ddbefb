"""`kubeling`: from the command line to a verb.

The cluster verbs (`up`, `status`, `node add` …) have flags of their own, such as `--name`. The kubectl verbs share kubectl's global flags, which may
stand anywhere on the line. `logs` is both: see :func:`kubeling.cli.cluster_verbs.route`.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Assemble the verbs and run the one that was asked for."""
    try:
        status = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # `kubeling get pods | head`: nobody reads on. What is still in the buffer must not be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def _run(argv: list[str]) -> int:
    from kubeling.cli import quick

    status = quick.up(argv)
    if status is not None:
        return status
    import typer

    from kubeling.cli import cluster_verbs, globalflags, verbs

    app = typer.Typer(
        name="kubeling",
        help="A whole Kubernetes on this machine, up in a second.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_nothing)
    try:
        _plugin(argv)
        taken = globalflags.take(argv)
        if taken and taken[0] in verbs.NAMES:
            argv = cluster_verbs.route(taken) if taken[0] == "logs" else taken
        word = argv[0] if argv else ""
        # Only what is needed: `up` would wait longer for the modules of `get` than for its certificates.
        if word not in verbs.NAMES:
            cluster_verbs.register(app)
        if word not in cluster_verbs.NAMES:
            argv, kinds = verbs.kind_first(argv) if word in verbs.WITH_KINDS else (argv, False)
            verbs.register(app, only=word, kinds=kinds)
        return int(app(argv, prog_name="kubeling", standalone_mode=False) or 0)
    except globalflags.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except typer.Abort:
        return 130
    except Exception as error:
        # What typer raises for a wrong flag or argument has no public name, but knows its words.
        if not hasattr(error, "format_message"):
            raise
        words = error.format_message().replace("No such option:", "unknown flag:")
        context = getattr(error, "ctx", None)
        print(f"error: {words}\nSee '{context.command_path if context else 'kubeling'} --help' for usage.", file=sys.stderr)
        return 1


def _plugin(argv: list[str]) -> None:
    """Become the program that a line means, where no verb of ours is meant."""
    from kubeling.cli import cluster_verbs, verbs

    word = argv[0] if argv else "-"
    if word == "create":
        meant = len(argv) > 1 and not argv[1].startswith("-") and not verbs.kind_first(argv)[1]
    else:
        meant = not word.startswith("-") and word not in verbs.NAMES and word not in cluster_verbs.NAMES
    if meant:
        from kubeling.cli import plugins

        plugins.run(argv)


def _nothing() -> None:
    """A callback keeps typer from folding an app of one command into that command."""


if __name__ == "__main__":
    main()
