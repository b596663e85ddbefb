"""What every daemon is made of: logging, clocks, back-off, supervised tasks, signals, and the small HTTP server for health and metrics.

Nothing here knows Kubernetes. A daemon's `__main__` parses flags and hands a coroutine to :func:`kubeling.daemon.main.run`.
"""
