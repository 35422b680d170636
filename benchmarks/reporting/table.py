"""A result as a Markdown table. Every figure is computed from the samples in the result."""

from __future__ import annotations

from collections.abc import Callable

from .result import NOISY_SPREAD, OVERLAPPING, Measurement, Result

BASELINES = ("sentence-transformers fp32", "transformers fp32")
Column = tuple[str, Callable[[Measurement], str]]
# Shown for every measurement, failed ones included; the other columns are shown if one has a figure.
IDENTITY: tuple[Column, ...] = (
    ("contender", lambda m: m.contender),
    ("scenario", lambda m: m.scenario),
    ("workload", lambda m: m.workload),
)


def markdown(result: Result, baseline: str | None = None) -> str:
    """A line about the environment, the table, and a warning for each noisy measurement.

    Args:
        result: its environment, and its measurements in the order of the rows.
        baseline: name of the contender whose speed counts as 1; by default the first of BASELINES in the result.
    """
    measured = [m for m in result.measurements if not m.error]  # a failed one has no figures
    columns = [column for column in _columns(result, baseline) if any(column[1](m) for m in measured)]
    columns = [*IDENTITY, *(columns or [("result", str)])]
    lines = [
        _environment(result),
        "",
        "| " + " | ".join(title for title, _ in columns) + " |",
        "|" + "---|" * len(columns),
    ]
    for measurement in result.measurements:
        if measurement.error:
            cells = [*(cell(measurement) for _, cell in IDENTITY), f"failed: {_cell(measurement.error)}"]
            lines.append("| " + " | ".join(cells) + " |")
        else:
            lines.append("| " + " | ".join(cell(measurement) for _, cell in columns) + " |")
    warnings = [warning for m in result.measurements for warning in noise(m)]
    return "\n".join([*lines, "", *warnings]).rstrip() + "\n"


def noise(measurement: Measurement) -> list[str]:
    """A warning if the samples vary so much that small differences mean nothing; otherwise no line.

    Scenarios with several callers are never flagged: there, latencies vary because calls wait for each other.
    """
    if measurement.scenario in OVERLAPPING or measurement.spread <= NOISY_SPREAD:
        return []
    name = f"{measurement.contender} on {measurement.workload} ({measurement.scenario})"
    return [f"Flagged as noisy: {name}. Half of its samples spread over {measurement.spread:.0%} of the median."]


def _columns(result: Result, baseline: str | None) -> list[Column]:
    baselines = _baselines(result, baseline)

    def speed_up(m: Measurement) -> str:
        seconds = baselines.get((m.scenario, m.workload))
        return f"{seconds / m.median:.2f}" if seconds else ""

    return [
        ("parameters", lambda m: ", ".join(f"{name} {value}" for name, value in m.parameters.items())),
        ("pairs/s", lambda m: f"{m.pairs_per_second:.1f}"),
        ("tokens/s", lambda m: f"{m.tokens_per_second:,.0f}"),
        ("speed-up", speed_up),
        ("latency, ms", _latency),
        ("share of peak", lambda m: _share_of_peak(result, m)),
        ("padding", lambda m: "" if m.padding is None else f"{m.padding:.1%}"),
        ("time by stage", _stages),
        ("peak memory", lambda m: f"{m.peak_memory / 1e6:,.0f} MB" if m.peak_memory else ""),
        ("largest difference", lambda m: _figure(m, "largest_difference", ".1e")),
        ("RMS error", lambda m: _figure(m, "rms", ".2%")),
        ("top 10 kept", lambda m: _figure(m, "top10", ".0%")),
    ]


def _baselines(result: Result, baseline: str | None) -> dict[tuple[str, str], float]:
    """Median seconds of the baseline, by scenario and workload; at its largest batch, which is its last measurement."""
    medians: dict[tuple[str, str], float] = {}
    for name in [baseline] if baseline else reversed(BASELINES):
        for m in result.measurements:
            if m.contender == name and m.seconds:
                medians[m.scenario, m.workload] = m.median
    return medians


def _share_of_peak(result: Result, m: Measurement) -> str:
    """Operations of the linear layers per second, divided by the rate of this machine's matrix products."""
    peak = result.environment.get("peak", {}).get(m.precision)
    if not (m.flops_per_token and peak and m.scenario != "cold"):
        return ""
    return f"{m.tokens_per_second * m.flops_per_token / peak / 1e9:.0%}"


def _latency(m: Measurement) -> str:
    shown = ", ".join(f"{name} {seconds * 1e3:,.1f}" for name, seconds in m.percentiles.items())
    samples = f"{len(m.seconds)} sample{'' if len(m.seconds) == 1 else 's'}"
    return f"{shown} ({samples})" if shown else samples


def _stages(m: Measurement) -> str:
    total = sum(m.stages.values())
    return ", ".join(f"{name} {s / total:.1%}" for name, s in m.stages.items() if s >= 0.0005 * total) if total else ""


def _figure(m: Measurement, name: str, form: str) -> str:
    return format(m.fidelity[name], form) if name in m.fidelity else ""


def _environment(result: Result) -> str:
    environment = result.environment
    machine = environment["machine"]
    peak = ", ".join(f"{kind} {rate:,.0f} GOP/s" for kind, rate in environment.get("peak", {}).items())
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    text = f"{machine['processor']}, {machine['threads']} threads; {versions}; commit {environment['commit']}"
    return f"{text}; peak of matrix products: {peak}." if peak else f"{text}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:300]
