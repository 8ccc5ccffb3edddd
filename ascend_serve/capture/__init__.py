"""The protocol by which all ranks of a capture group capture the same graphs, or none."""
