"""Custom resources without I/O: what a CustomResourceDefinition says, and what its schemas do to objects.

:mod:`.definition` reads a CustomResourceDefinition, :mod:`.node` compiles a structural schema; the compiled tree then prunes (:mod:`.prune`), defaults
(:mod:`.defaulting`) and validates (:mod:`.validate`) objects, gives server-side apply its schema (:mod:`.merge_schema`) and OpenAPI its components
(:mod:`.publish`). :mod:`.check` says what is wrong with a schema, :mod:`.conditions` what is to be said of a definition.
"""
