"""The cluster autoscaler: adds machines for pods that fit nowhere, and takes away those that are hardly used."""
