"""Cluster DNS, by the Kubernetes DNS specification (version 1.1.0).

:mod:`records` turns Services and EndpointSlices into names, plain data; :mod:`answers` answers a query from them; :mod:`server` speaks UDP and TCP;
:mod:`forward` asks others for what is not ours; :mod:`register` makes this server an endpoint of the `kube-dns` Service.
"""
