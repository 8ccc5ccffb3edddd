"""Stands in for setuptools where pip asks a source distribution for the metadata that lie in it (``vendor.py``)."""
