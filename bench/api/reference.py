"""Upstream's kube-apiserver 1.20 on etcd 3.4, measured on a 2-core machine with the load generator beside it, by the names of our rows."""

from __future__ import annotations

FIGURES = {
    "get, 1 client": 1640.0,
    "get, 1 client: p50": 0.9,
    "get, 16 clients": 6200.0,
    "get, 16 clients: p50": 2.7,
    "create pod, 1 client": 790.0,
    "create pod, 1 client: p50": 1.4,
    "create pod, 16 clients": 1450.0,
    "create pod, 16 clients: p50": 11.7,
    "create pod, 64 clients": 1650.0,
    "cold start with its store": 3.6,
}
