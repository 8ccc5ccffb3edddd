"""Bringing the application up on a cluster, what stands before its replicas, and asking it afterwards."""
