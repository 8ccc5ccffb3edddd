"""Graph runtimes: each one as engine and ranks deal with it, behind one interface."""
