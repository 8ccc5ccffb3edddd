"""Graph runtimes: what a rank replays with."""
