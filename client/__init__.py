"""How every component talks to the apiserver: REST client, informers, work queues, leader election, events.

The layers, each using only those before it: :mod:`kubeconfig` (who and where), :mod:`rest` (requests), :mod:`store` and :mod:`informer` (a local
copy that follows the server), :mod:`workqueue` and :mod:`controller` (the one reconcile shape), :mod:`leaderelection`, :mod:`events`.
"""
