"""kube-proxy: makes Services' addresses work on one node.

:mod:`model` works out, from Services and EndpointSlices, what each service port leads to *on this node*; it is plain data. A backend makes it so:
:mod:`nftables` by packet rules in the node's network namespace, :mod:`userspace` by listening sockets where nft is not to be had. :mod:`routes` keeps
the routes to the other nodes' pods.
"""
