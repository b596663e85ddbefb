"""An ingress controller: Ingress objects become the configuration of an HAProxy, which carries the traffic."""
