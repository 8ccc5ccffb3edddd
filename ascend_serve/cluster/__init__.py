"""Ray: connecting to a cluster, placing ranks on it, and starting and clearing away a local one."""
