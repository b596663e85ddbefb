"""Lists, reads and watches out of memory, fed by one etcd watch."""
