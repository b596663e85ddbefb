"""The default plugins, with upstream's semantics, names and weights; :mod:`kubeling.scheduler.registry` knows them by name."""
