"""Objects laid out for people: one module for what belongs together, over :mod:`kubeling.cli.describing.page`."""
