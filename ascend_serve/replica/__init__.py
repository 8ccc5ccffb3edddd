"""One replica: an engine and its NPUs as an application of Ray Serve, watched and replaced where it fails."""
