"""How every component talks to the apiserver: REST client, informers, work queues, leader election, events.

The layers, each using only those before it: :mod:`kubeconfig` (who and where), :mod:`rest` (requests), :mod:`store` and :mod:`informer` (a local
copy that follows the server), :mod:`workqueue` and :mod:`controller` (the one reconcile shape), :mod:`leaderelection`, :mod:`events`.
"""

import sys

# httpx brings a command line of its own, which imports rich and click (50 ms, 5 MB) into every daemon; where that cannot be imported, httpx goes without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
