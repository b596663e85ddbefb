"""The apiserver under load: rates, latencies and CPU time of each verb, watch fan-out, memory. Beside a real kube-apiserver where one is installed.

The other figures to compare with are upstream's 1.20 on etcd 3.4, measured on a machine of this kind, with the load generator beside it (:mod:`reference`).
"""
