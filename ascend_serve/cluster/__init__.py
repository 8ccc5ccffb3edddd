"""Ray: node probe, per-node environment, placement, local cluster, doctor."""
