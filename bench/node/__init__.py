"""The node: how fast pods start, what a node costs, how much goes through it, on crilite and beside it on containerd with the same kubelet."""
