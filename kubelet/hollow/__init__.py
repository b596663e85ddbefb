"""Hollow nodes: many kubelets in one process, whose pods run nothing and say that they do.

Everything around a node is real (the objects, the writes, the watches, the scheduler's and the controllers' work); only the runtime is missing. What
a hollow pod does, and when, is said by *stages* (:mod:`stages`, :mod:`defaults`). All state is in the API: this process may be killed at any moment.
"""
