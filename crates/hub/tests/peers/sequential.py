"""Vectors of the three sequential tests, reckoned with numpy straight from their formulas, in plain products where they
do not overflow. Writes tests/golden/sequential.json, which `rollout::sequential` must meet to 9 digits.

    python crates/hub/tests/peers/sequential.py crates/hub/tests/golden/sequential.json
"""

import json
import sys

import numpy as np


def share(failed, answered, p0):
    p = np.geomspace(p0, 0.9, 16)
    with np.errstate(under="ignore"):
        each = (p / p0) ** failed * ((1 - p) / (1 - p0)) ** (answered - failed)
    return float(np.log(np.mean(each)))


def trouble(events):
    times = np.array([1.5, 2, 3, 5, 10, 20, 40])
    e = np.ones(7)
    for treated, n_t, n_h in events:
        q0 = n_t / (n_t + n_h)
        q = times * n_t / (times * n_t + n_h)
        e *= q / q0 if treated else (1 - q) / (1 - q0)
    return float(np.log(np.mean(e)))


def difference(treated, held_out, effect):
    t, h = len(treated), len(held_out)
    s2 = (np.sum((treated - treated.mean()) ** 2) + np.sum((held_out - held_out.mean()) ** 2)) / (t + h - 2)
    n, z, tau2 = t * h / (t + h), treated.mean() - held_out.mean(), effect**2
    value = np.sqrt(s2 / (s2 + n * tau2)) * np.exp(n**2 * tau2 * z**2 / (2 * s2 * (s2 + n * tau2)))
    return float(z), float(np.log(value))


def main(path):
    rng = np.random.default_rng(7)
    rows = {"share": [], "trouble": [], "difference": []}
    for failed, answered in [(0, 0), (0, 100), (1, 100), (2, 100), (5, 100), (3, 72), (10, 1000), (50, 1000), (9, 9)]:
        for p0 in (0.005, 0.002):
            ln_e = share(failed, answered, p0)
            rows["share"].append({"failed": failed, "answered": answered, "p0": p0, "ln_e": ln_e})
    for n_t, n_h, hazard, count in [(100, 9900, 1, 12), (100, 9900, 20, 12), (1000, 9000, 3, 30), (500, 500, 1, 25)]:
        for _ in range(3):
            chance = hazard * n_t / (hazard * n_t + n_h)
            events = [[bool(rng.random() < chance), n_t, n_h] for _ in range(count)]
            rows["trouble"].append({"events": events, "ln_e": trouble(events)})
    for t, h, shift in [(30, 60, 0.0), (60, 120, 0.1), (54, 100, 0.2), (200, 30, 0.05), (40, 40, -0.1)]:
        for _ in range(2):
            treated, held_out = np.round(rng.normal(shift, 0.2, t), 6), np.round(rng.normal(0, 0.2, h), 6)
            change, ln_e = difference(treated, held_out, np.log(1.1))
            row = {"treated": treated.tolist(), "held_out": held_out.tolist(), "effect": float(np.log(1.1))}
            rows["difference"].append(row | {"change": change, "ln_e": ln_e})
    with open(path, "w") as file:
        lines = [f'"{name}":[\n' + ",\n".join(json.dumps(row, separators=(",", ":")) for row in some) + "\n]" for name, some in rows.items()]
        file.write("{" + ",\n".join(lines) + "}\n")
    print(sum(len(some) for some in rows.values()), "rows")


main(sys.argv[1])
