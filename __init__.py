"""kubeling: a whole Kubernetes in Python, as separate daemons that speak the real wire protocols."""

__version__ = "0.1.0"
#: What the apiserver and the kubelets report: the Kubernetes release whose API is served.
KUBERNETES_VERSION = "v1.33.1"
