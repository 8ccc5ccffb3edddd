"""``ascend-serve demo``: a small model with random weights on two emulated NPUs, with nothing to prepare."""

from __future__ import annotations

from ascend_serve.cli.arguments import Dashboard, ModelsAndOverrides, Verbose
from ascend_serve.cli.serve import serve
from ascend_serve.config.shipped import shipped


def demo(overrides: ModelsAndOverrides = None, *, verbose: Verbose = False, dashboard: Dashboard = False) -> None:
    """Serve a small model with random weights on two emulated NPUs, from any folder. Ctrl-C stops it.

    It takes what serve takes: overrides of the shipped configuration demo, and further models.
    """
    serve(shipped()["demo"], overrides, verbose, dashboard)
