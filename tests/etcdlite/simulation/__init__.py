"""The consensus core under a virtual clock, with a seeded network, disks and faults; every schedule can be run again by its number.

``python -m tests.etcdlite.simulation --seeds 5000`` runs schedules on all cores and prints the seeds that fail; ``--seed N --trace`` tells one of them.

- :mod:`.disk`: what survives a crash: writes that were begun may be there or not, in order, each whole or not at all (its checksum tells).
- :mod:`.member`: a core with the caller's duties around it, as simple as they can be.
- :mod:`.checker`: what must never happen, looked at after every step.
- :mod:`.world`: clock, network, faults and traffic.
- :mod:`.mutations`: deliberate bugs that the checks have to find.
"""
