"""What stops a build."""

from __future__ import annotations


class KustomizationError(Exception):
    """The folder cannot be built; the text is for the user's eyes."""
