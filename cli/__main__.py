"""`kubeling`: from the command line to a verb."""

from __future__ import annotations

import sys


def main() -> None:
    """Assemble the verbs and run the one that was asked for."""
    import typer

    from kubeling.cli import cluster_verbs, session, verbs

    app = typer.Typer(
        name="kubeling",
        help="A whole Kubernetes on this machine, up in a second.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    cluster_verbs.register(app)
    verbs.register(app)
    sys.argv = cluster_verbs.route(sys.argv)
    app()


if __name__ == "__main__":
    main()
    sys.exit(0)
