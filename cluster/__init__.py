"""A cluster on this machine: what ``kubeling up``, the tests and the pytest plugin share.

The parts, each using only those above it: :mod:`topology` (pure: who runs where with which flags), :mod:`pki` and :mod:`kubeconfig` (who trusts
whom), :mod:`state` (what is on disk), :mod:`channel` and :mod:`control` (how the processes talk), :mod:`zygote`, :mod:`child` and :mod:`nodeinit`
(how processes come to be), :mod:`userns`, :mod:`network` and :mod:`cgroups` (what Linux provides), :mod:`units` and :mod:`supervisor` (what keeps it
all alive), :mod:`bootstrap` (the objects that every cluster has), :mod:`launch` (up and down), :mod:`inspection` and :mod:`faults`.

No daemon is imported here: they are started by module name and met on the wire.
"""
