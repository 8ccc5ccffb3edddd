"""Generation without a server, on the same engine as serving."""
