"""The only state: etcd v3 over gRPC."""
