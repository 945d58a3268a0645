"""A notebook that recomputes a result from its exported rows, with NumPy and SciPy alone: so that nobody has to take our word.

It stands beside two files: the rows (CSV, one per assigned user) and the result (JSON) that was given for the same moment.
"""

import string
from typing import Any

FORMAT = {"nbformat": 4, "nbformat_minor": 5}

_LOAD = """\
import csv, json, math
import numpy as np
from scipy import stats

with open({rows!r}, newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
with open({result!r}, encoding="utf-8") as file:
    result = json.load(file)
print(len(rows), "users; result up to", result["window"]["end"])
"""

_FUNCTIONS = '''\
SHARES = {"conversion", "retention", "funnel", "threshold"}
RATIOS = {"mean", "ratio"}

def column(name, variant, phase):
    """The numbers of an arm's users; those whose window is not over have none."""
    mine = [row for row in rows if row["variant"] == variant and row["phase"] == phase]
    return np.array([float(row[name]) for row in mine if row[name] != ""])

def arms(metric, kind, phase, adjusted):
    """Mean and variance per user, and users, of every arm in a phase."""
    found = {}
    for variant in [part["name"] for part in result["variants"]]:
        y = column(metric, variant, phase)
        if kind in RATIOS:
            d = column(metric + ".denominator", variant, phase)
            if adjusted:
                mp, dp = column(metric + ".before", variant, phase), column(metric + ".before_denominator", variant, phase)
                found[variant] = np.array([y, d, mp, dp])
            else:
                ratio = y.mean() / d.mean()
                found[variant] = ratio, np.var((y - ratio * d) / d.mean(), ddof=1), len(y)
        elif adjusted:
            found[variant] = np.array([y, column(metric + ".before", variant, phase)])
        else:
            found[variant] = y.mean(), np.var(y, ddof=1), len(y)
    return cuped(found) if adjusted else found

def linear(sample):
    """Deviations of a linearised ratio, and the ratio."""
    ratio = sample[0].mean() / sample[1].mean()
    return (sample[0] - ratio * sample[1]) / sample[1].mean(), ratio

def cuped(samples):
    """Deng, Xu, Kohavi & Walker (2013): what users did before takes part of the noise out of what they do."""
    if len(next(iter(samples.values()))) == 4:
        together = np.concatenate(list(samples.values()), axis=1)
        (y, _), (x, centre) = linear(together[:2]), linear(together[2:])
        theta = np.cov(y, x)[0, 1] / np.var(x, ddof=1)
        found = {}
        for name, sample in samples.items():
            (y, now), (x, before) = linear(sample[:2]), linear(sample[2:])
            found[name] = now - theta * (before - centre), np.var(y - theta * x, ddof=1), sample.shape[1]
        return found
    together = np.concatenate(list(samples.values()), axis=1)
    theta = np.cov(together)[0, 1] / np.var(together[1], ddof=1)
    adjusted = {name: y - theta * (x - together[1].mean()) for name, (y, x) in samples.items()}
    return {name: (y.mean(), np.var(y, ddof=1), len(y)) for name, y in adjusted.items()}

def compare(metric, kind, variant, baseline, adjusted):
    """Difference, statistic and two-sided p-value, within phases and put together."""
    phases = sorted({row["phase"] for row in rows})
    found = [(arms(metric, kind, phase, adjusted)) for phase in phases]
    pairs = [(part[baseline], part[variant]) for part in found]
    pooled = kind in SHARES and not adjusted
    if len(pairs) == 1:
        (m0, v0, n0), (m1, v1, n1) = pairs[0]
        if pooled:
            p = (m0 * n0 + m1 * n1) / (n0 + n1)
            z = (m1 - m0) / math.sqrt(p * (1 - p) * (1 / n0 + 1 / n1))
            return m1 - m0, z, 2 * stats.norm.sf(abs(z))
        test = stats.ttest_ind_from_stats(m1, math.sqrt(v1), n1, m0, math.sqrt(v0), n0, equal_var=False)
        return m1 - m0, test.statistic, test.pvalue
    pairs = [pair for pair in pairs if pair[0][2] > 1 and pair[1][2] > 1]
    total = sum(c[2] + t[2] for c, t in pairs)
    difference = variance = 0.0
    for (m0, v0, n0), (m1, v1, n1) in pairs:
        if pooled:
            p = (m0 * n0 + m1 * n1) / (n0 + n1)
            v0 = v1 = p * (1 - p)
            v0, v1 = v0 * n0 / (n0 - 1), v1 * n1 / (n1 - 1)
        share = (n0 + n1) / total
        difference += share * (m1 - m0)
        variance += share**2 * (v0 / n0 + v1 / n1)
    z = difference / math.sqrt(variance)
    return difference, z, 2 * stats.norm.sf(abs(z))
'''

_CHECK = """\
kinds = {key: value["kind"] for key, value in result["variants"][0]["metrics"].items()}
checked = skipped = 0
for said in result["comparisons"]:
    if said["statistic"] is None or said["metric"] not in rows[0] or kinds[said["metric"]] == "quantile":
        skipped += 1
        continue
    difference, statistic, p = compare(
        said["metric"], kinds[said["metric"]], said["variant"], said["baseline"], bool(said["adjusted"])
    )
    print(f"{said['metric']:30} {said['variant']:20} difference {difference:+.6g}  statistic {statistic:+.4f}  p {p:.4g}")
    assert math.isclose(difference, said["absolute_difference"], rel_tol=1e-6, abs_tol=1e-9), said
    assert math.isclose(statistic, said["statistic"], rel_tol=1e-6, abs_tol=1e-9), said
    assert math.isclose(p, said["p_value"], rel_tol=1e-5, abs_tol=1e-300), said
    checked += 1
print(checked, "comparisons recomputed and equal,", skipped, "without a test or from single events")
"""

_RATIO = """\
observed = [part["assigned_users"] for part in result["variants"]]
expected = [result["health"]["sample_ratio"]["expected"][part["name"]] for part in result["variants"]]
open_arms = [(o, e) for o, e in zip(observed, expected) if e > 0]
chi = stats.chisquare([o for o, _ in open_arms], [e for _, e in open_arms])
print("sample ratio: chi-squared", chi.statistic, "p", chi.pvalue)
assert math.isclose(chi.pvalue, result["health"]["sample_ratio"]["p_value"], rel_tol=1e-9)
"""


def build(title: str, rows: str, result: str) -> dict[str, Any]:
    """The notebook (nbformat 4.5) over a file of rows and a file with the result, which lie beside it."""
    return FORMAT | {
        "metadata": {"language_info": {"name": "python"}},
        "cells": [
            _text("about", f"# {_plain(title)}\n\nThis recomputes a result from the exported rows with NumPy and SciPy alone."),
            _code("load", _LOAD.format(rows=rows, result=result)),
            _text("how", "Shares are compared by the pooled z-test, all else by Welch's t-test, ratios by the delta method."),
            _code("functions", _FUNCTIONS),
            _code("check", _CHECK),
            _text("split", "Whether users arrived in the planned shares."),
            _code("ratio", _RATIO),
        ],
    }  # fmt: skip


def _plain(text: str) -> str:
    """A text that somebody typed, which Markdown shows as it is (CommonMark 0.31, 2.4)."""
    return "".join(f"\\{letter}" if letter in string.punctuation else letter for letter in text)


def _text(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def _code(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "code", "id": name, "metadata": {}, "execution_count": None, "outputs": [], "source": text}
