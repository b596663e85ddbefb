"""kube-scheduler: which node for which pod.

A scheduling *cycle* is plain synchronous code over the cache (:mod:`cache`): filter, score, choose, assume. Nothing is awaited in it, so the cache
cannot change under it and no snapshot is needed. A *binding cycle* then talks to the apiserver in the background, several at a time. What decides
lies in :mod:`plugins`; :mod:`framework` runs them; :mod:`queue` says whose turn it is.
"""
