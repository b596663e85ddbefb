"""NetworkPolicy: what the policies say becomes packet rules of this node, for the pods of this node."""
