"""The embedded workload: arrivals from a seed, with lengths like a conversation service's.

Knows: two distributions and their parameters. Does not know: files, token ids.

Lengths are lognormal, fitted by maximum likelihood (mean and standard
deviation of the natural logarithms) to the Azure conversation trace of
November 2023: 19,366 requests in 58 minutes, 5.53 a second (P. Patel et al.,
"Splitwise", ISCA'24; github.com/Azure/AzurePublicDataset, CC-BY 4.0). Draws
are cut at the trace's largest lengths.

                      trace   fit            trace   fit
    prompt  p50        1,020    760   mean   1,155  1,227
            p99        4,142  7,519
    output  p50          129    151   mean     211    213
            p99          601  1,000

The trace has two modes (about 400 and 1,050 prompt tokens) that a lognormal
smooths over: for its exact shape, read the trace. The logarithms of prompt
and output correlate by 0.09 only, so they are drawn independently. The gaps
between its arrivals have a coefficient of variation of 1.09: nearly Poisson (1).

Identical everywhere: all draws come from `random.Random(text).random()`,
which Python keeps the same in every version and on every machine; the
formulas on top are spelled out here, and results are rounded to whole tokens
and microseconds, where a last-bit difference of a math library disappears.
Times, prompts, outputs and tenants have streams of their own, so another rate
or burstiness leaves the requests themselves unchanged.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Mapping

from aqua_jax.control import errors
from aqua_jax.workloads import records, shaping

_NORMAL = statistics.NormalDist()


@dataclasses.dataclass(frozen=True, slots=True)
class LogNormal:
    """Token counts whose logarithm is normal; rounded, from 1 to `tokens_max`."""

    log_mean: float
    log_std: float
    tokens_max: int


AZURE_PROMPTS = LogNormal(log_mean=6.6333, log_std=0.9852, tokens_max=14_050)
AZURE_OUTPUTS = LogNormal(log_mean=5.0190, log_std=0.8590, tokens_max=1_000)


def generate(
    requests: int,
    seed: int,
    *,
    requests_per_second: float,
    burstiness: float = 1.0,
    prompts: LogNormal = AZURE_PROMPTS,
    outputs: LogNormal = AZURE_OUTPUTS,
    tenants: Mapping[str, float] | None = None,
) -> list[records.Arrival]:
    """`requests` arrivals drawn from `seed`, the first at 0 seconds.

    burstiness: the coefficient of variation of the gaps between arrivals,
      which are gamma distributed. 1 is a Poisson process, above 1 is burstier
      and 0 is a metronome.
    tenants: name -> share of the requests; None: all of one tenant "".
    """
    if requests < 1:
        raise errors.ConfigError(f"requests is {requests}: give at least 1")
    if not (math.isfinite(requests_per_second) and requests_per_second > 0):
        raise errors.ConfigError(
            f"requests_per_second is {requests_per_second}: give a finite number above 0"
        )
    if not (math.isfinite(burstiness) and burstiness >= 0):
        raise errors.ConfigError(f"burstiness is {burstiness}: give a finite number, 0 or above")
    gaps = random.Random(f"{seed}/gaps")
    prompt_draws = random.Random(f"{seed}/prompts")
    output_draws = random.Random(f"{seed}/outputs")
    arrivals: list[records.Arrival] = []
    at_seconds = 0.0
    for _ in range(requests):
        arrivals.append(
            records.Arrival(
                at_seconds=round(at_seconds, 6),
                prompt_tokens=_draw_tokens(prompts, prompt_draws),
                output_tokens=_draw_tokens(outputs, output_draws),
            )
        )
        at_seconds += _draw_gap(gaps, burstiness) / requests_per_second
    return shaping.with_tenants(arrivals, tenants, seed=seed) if tenants else arrivals


def _draw_tokens(lengths: LogNormal, draws: random.Random) -> int:
    tokens = math.exp(lengths.log_mean + lengths.log_std * _draw_normal(draws))
    return min(max(1, math.floor(tokens + 0.5)), lengths.tokens_max)


def _draw_gap(draws: random.Random, burstiness: float) -> float:
    """A gap of mean 1 and coefficient of variation `burstiness`."""
    if burstiness == 0:
        return 1.0
    if burstiness == 1:
        return -math.log(1 - draws.random())
    shape = burstiness**-2
    return _draw_gamma(draws, shape) / shape


def _draw_gamma(draws: random.Random, shape: float) -> float:
    """A gamma variate of scale 1 (G. Marsaglia, W. Tsang, ACM TOMS 26(3), 2000).

    Below shape 1: Gamma(shape) = Gamma(shape + 1) * U ** (1 / shape).
    """
    if shape < 1:
        boost = (1 - draws.random()) ** (1 / shape)
        return _draw_gamma(draws, shape + 1) * boost
    d = shape - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        normal = _draw_normal(draws)
        v = (1 + c * normal) ** 3
        log_uniform = math.log(1 - draws.random())
        if v > 0 and log_uniform < normal**2 / 2 + d * (1 - v + math.log(v)):
            return d * v


def _draw_normal(draws: random.Random) -> float:
    # inv_cdf takes the open interval (0, 1); random() is a multiple of 2**-53 in [0, 1).
    return _NORMAL.inv_cdf(draws.random() + 2.0**-54)
