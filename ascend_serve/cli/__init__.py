"""The ``ascend-serve`` command."""
