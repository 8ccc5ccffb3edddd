"""What a deployment has counted."""

from __future__ import annotations

from collections import defaultdict

import httpx
from prometheus_client.parser import text_string_to_metric_families

COUNTED = ("counter", "histogram", "summary")


def counters(http: httpx.Client) -> dict[str, float]:
    """All that only grows in ``GET /metrics``, each summed over its labels."""
    sums: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples if family.type in COUNTED else ():
            if not sample.name.endswith(("_created", "_bucket")):
                sums[sample.name] += sample.value
    return dict(sums)


def gauge(http: httpx.Client, name: str) -> float:
    """What a gauge says in ``GET /metrics``, summed over its labels."""
    families = text_string_to_metric_families(http.get("/metrics").text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)
