"""Hostile requests from seeds, and a target that says what they did.

Two generators: :mod:`hostile` bends bytes (bodies of every encoding, patches, selectors, tokens, paths, headers, options), :mod:`schema` makes objects that the
OpenAPI document allows, or nearly. :mod:`target` sends them, checks each answer, and in the end the server's health, memory and what it has stored.

`make fuzz` runs it for as long as one likes; `tests/apiserver/test_fuzz_live.py` is its short form.
"""
