"""The workload: how often a decode step has how many tokens, counted, simulated or guessed."""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, lgamma, log, sqrt

from ascend_serve.errors import ConfigError
from ascend_serve.graph.sizes import prior_weights
from ascend_serve.graph.trace import TracedRequest, read_trace

DECODE_SHARE = 0.95
"""Share of its time that a client of a closed loop has a request in decode. An assumption: the rest is prefill, and the
way of answers and requests between server and client."""

PREFILL_TOKENS_PER_SECOND = 10_000.0
"""Speed of prefill in the simulation of a trace. An assumption of magnitude: decode steps are what is counted."""

PRIOR_SHARE = 0.01
"""Share of the prior that is mixed into a counted load, so that sizes it has not shown yet are not left without."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A distribution of decode steps.

    Attributes:
        weights: Steps per batch size in tokens, in any unit.
        source: Where it comes from, for a person.
    """

    weights: Mapping[int, float]
    source: str

    def smoothed(self, candidates: Sequence[int]) -> dict[int, float]:
        """Shares of the steps per batch size, with a little of the prior over ``candidates``."""
        total = sum(self.weights.values())
        prior = prior_weights(candidates)
        counted = {n: count / total for n, count in self.weights.items()}
        return {
            n: (1 - PRIOR_SHARE) * counted.get(n, 0) + PRIOR_SHARE * prior.get(n, 0) for n in sorted({*prior, *counted})
        }


def from_histogram(text: str, path: str) -> Workload:
    """A JSON object of steps per decode batch size in tokens, for example ``{"1": 120, "8": 40}``.

    Args:
        text: The object.
        path: Of the file that holds it, for messages.

    Raises:
        ConfigError: It is something else.
    """
    try:
        counted = {int(size): float(count) for size, count in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{path}: not a histogram: {error}", 'Give a JSON object like {"1": 120, "8": 40}.'
        ) from error
    weights = {size: count for size, count in sorted(counted.items()) if count > 0}
    if not weights or min(weights) < 1 or not all(count >= 0 and isfinite(count) for count in counted.values()):
        raise ConfigError(f"{path}: holds no steps of 1 or more tokens", 'Give a JSON object like {"1": 120, "8": 40}.')
    return Workload(weights, f"histogram {path}")


def from_trace(text: str, path: str, max_num_seqs: int, decode_query_len: int = 1, step_ms: float = 30.0) -> Workload:
    """A trace of requests, with the queue in front of one engine simulated.

    Args:
        text: CSV with a header, or JSON lines; columns as in `ascend_serve.graph.trace`.
        path: Of the file that holds it, for messages.
        max_num_seqs: The scheduler's limit of requests in a batch.
        decode_query_len: Tokens per request in a decode step.
        step_ms: Milliseconds of a decode step.

    Raises:
        ConfigError: It is something else.
    """
    steps = simulate(read_trace(text, path), max_num_seqs, step_ms / 1000)
    weights = {n * decode_query_len: float(count) for n, count in sorted(steps.items())}
    return Workload(weights, f"trace {path}, {step_ms:g} ms per step")


def from_concurrency(clients: int, max_num_seqs: int, decode_query_len: int = 1) -> Workload:
    """Clients that wait for their answers: each is in decode with ``DECODE_SHARE``, more than fit wait in the queue."""
    mean, deviation = clients * DECODE_SHARE, sqrt(clients * DECODE_SHARE * (1 - DECODE_SHARE))
    weights: defaultdict[int, float] = defaultdict(float)
    for busy in range(max(1, int(mean - 6 * deviation)), clients + 1):
        weights[min(busy, max_num_seqs) * decode_query_len] += _binomial(clients, busy, DECODE_SHARE)
    return Workload({n: share for n, share in weights.items() if share > 1e-9}, f"{clients} concurrent clients")


def simulate(requests: Iterable[TracedRequest], max_num_seqs: int, step_seconds: float) -> Counter[int]:
    """Count decode steps per number of running requests: continuous batching, first come first served.

    Prefill stops decode while it lasts. Between two events the batch stays as it is, so its steps are counted at once:
    the cost is that of the requests, not of the steps.

    Args:
        requests: In the order of their arrival.
        max_num_seqs: Requests that run at the same time at most.
        step_seconds: Seconds of a decode step.
    """
    waiting = list(requests)[::-1]
    running: list[int] = []
    steps: Counter[int] = Counter()
    now, step = 0.0, 0
    while waiting or running:
        if not running:
            now = max(now, waiting[-1].arrival)
        while waiting and len(running) < max_num_seqs and waiting[-1].arrival <= now:
            request = waiting.pop()
            now += request.input_tokens / PREFILL_TOKENS_PER_SECOND
            heapq.heappush(running, step + max(1, request.output_tokens))
        count = running[0] - step
        if waiting and len(running) < max_num_seqs:
            count = min(count, 1 + int((waiting[-1].arrival - now) / step_seconds))
        steps[len(running)] += count
        step, now = step + count, now + count * step_seconds
        while running and running[0] <= step:
            heapq.heappop(running)
    return steps


def _binomial(trials: int, successes: int, share: float) -> float:
    ways = lgamma(trials + 1) - lgamma(successes + 1) - lgamma(trials - successes + 1)
    return exp(ways + successes * log(share) + (trials - successes) * log(1 - share))
