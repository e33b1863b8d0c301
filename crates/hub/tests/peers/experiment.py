"""Vectors of what decides experiments, reckoned with scipy without the closed forms that the hub uses: the Bayes factor as
a sum over all effects and deviations, the interval as its roots, and the exact binomial test. Writes
tests/golden/experiment.json, which `experiment::sequence` and `experiment::split` must meet to 6 digits.

    python crates/hub/tests/peers/experiment.py crates/hub/tests/golden/experiment.json
"""

import json
import sys

import numpy as np
from scipy import optimize, special, stats

PRIOR = 0.25


def ln_e(a, b, shift):
    """What mixes over every effect ~ N(0, PRIOR) deviations, over what says that there is none; both over every deviation,
    by its right Haar prior 1/sigma. Sums on grids, since all of it is smooth and dies away on both sides."""
    n, nu = len(a) * len(b) / (len(a) + len(b)), len(a) + len(b) - 2
    s2 = (np.sum((a - a.mean()) ** 2) + np.sum((b - b.mean()) ** 2)) / nu
    change = b.mean() - a.mean() - shift
    ln_sigma = np.log(np.sqrt(s2)) + np.linspace(-3, 3, 801)
    sigma = np.exp(ln_sigma)[:, None]
    effect = np.linspace(-6, 6, 801)[None, :]
    ln_s2 = -nu * ln_sigma[:, None] - nu * s2 / (2 * sigma**2)
    ln_change = lambda d: -np.log(sigma) - n * (change - d * sigma) ** 2 / (2 * sigma**2)
    none = special.logsumexp(ln_s2 + ln_change(0.0))
    prior = stats.norm.logpdf(effect, 0, np.sqrt(PRIOR)) + np.log(effect[0, 1] - effect[0, 0])
    return float(special.logsumexp(ln_s2 + ln_change(effect) + prior) - none)


def interval(a, b, alpha):
    change = float(b.mean() - a.mean())
    outside = lambda shift: ln_e(a, b, shift) + np.log(alpha)
    reach = 0.05 * np.std(np.concatenate([a, b]))
    while outside(change + reach) < 0:
        reach *= 1.5
        if reach > 1e3:
            return None
    half = optimize.brentq(lambda r: outside(change + r), 0, reach, xtol=1e-10)
    return [change, change - half, change + half]


def main(path):
    rng = np.random.default_rng(11)
    rows = {"interval": [], "binomial": []}
    for of_a, of_b, shift in [(20, 20, 0.0), (30, 30, 0.3), (12, 40, -0.2), (60, 50, 0.1), (100, 100, -0.15), (25, 80, 0.05), (150, 150, 0.02)]:
        for alpha in (0.05, 0.01):
            a, b = np.round(rng.normal(0, 0.2, of_a), 6), np.round(rng.normal(shift, 0.2, of_b), 6)
            row = {"a": a.tolist(), "b": b.tolist(), "alpha": alpha, "ln_e": ln_e(a, b, 0.0)}
            rows["interval"].append(row | {"interval": interval(a, b, alpha)})
    for hits, trials, share in [(0, 1, 0.5), (0, 10, 0.5), (5, 10, 0.5), (2, 20, 0.3), (50, 100, 0.5), (38, 100, 0.5), (300, 1000, 1 / 3), (9, 9, 0.1), (480, 1000, 0.5), (4700, 10000, 0.5), (0, 4, 0.25)]:
        p = stats.binomtest(hits, trials, share).pvalue
        rows["binomial"].append({"hits": hits, "trials": trials, "share": share, "p": float(p)})
    with open(path, "w") as file:
        lines = [f'"{name}":[\n' + ",\n".join(json.dumps(row, separators=(",", ":")) for row in some) + "\n]" for name, some in rows.items()]
        file.write("{" + ",\n".join(lines) + "}\n")
    print(sum(len(some) for some in rows.values()), "rows")


main(sys.argv[1])
