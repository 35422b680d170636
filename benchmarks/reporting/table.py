"""Results as a Markdown table. Everything in it is computed from the file's samples."""

from __future__ import annotations

from collections.abc import Callable

from .result import NOISY_SPREAD, Measurement, Result

BASELINES = ("sentence-transformers fp32", "transformers fp32")
Column = tuple[str, Callable[[Measurement], str]]
# Shown for every measurement, failed ones included; the other columns are shown if one has a figure.
IDENTITY: tuple[Column, ...] = (
    ("contender", lambda m: m.contender),
    ("scenario", lambda m: m.scenario),
    ("workload", lambda m: m.workload),
)


def markdown(result: Result, baseline: str | None = None) -> str:
    """The environment in a line, a table, and a warning for each noisy row.

    Args:
        result: of one run.
        baseline: the contender whose speed counts as 1; by default sentence-transformers' or transformers' fp32.
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
    """A warning where the samples of like calls spread too far for a small difference to mean anything."""
    if measurement.scenario == "server" or measurement.spread <= NOISY_SPREAD:
        return []
    return [
        f"Noisy: half of the samples of {measurement.contender} on {measurement.workload} "
        f"({measurement.scenario}) spread over {measurement.spread:.0%} of their median."
    ]


def _columns(result: Result, baseline: str | None) -> list[Column]:
    base = _baselines(result, baseline)

    def times(m: Measurement) -> str:
        slow = base.get((m.scenario, m.workload))
        return f"{slow / m.median:.2f}" if slow and m.seconds else ""

    return [
        ("parameters", lambda m: ", ".join(f"{name} {value}" for name, value in m.parameters.items())),
        ("pairs/s", lambda m: f"{m.pairs_per_second:.1f}"),
        ("tokens/s", lambda m: f"{m.tokens_per_second:,.0f}"),
        ("times", times),
        ("latency, ms", _latency),
        ("of the peak", lambda m: _share_of_peak(result, m)),
        ("padding", lambda m: "" if m.padding is None else f"{m.padding:.1%}"),
        ("time spent", _stages),
        ("peak memory", lambda m: f"{m.peak_memory / 1e6:,.0f} MB" if m.peak_memory else ""),
        ("largest difference", lambda m: _figure(m, "largest_difference", ".1e")),
        ("RMS error", lambda m: _figure(m, "rms", ".2%")),
        ("top 10 kept", lambda m: _figure(m, "top10", ".0%")),
    ]


def _baselines(result: Result, baseline: str | None) -> dict[tuple[str, str], float]:
    """Median seconds of the baseline, by scenario and workload; at its default batch, which is its last entry."""
    names = [baseline] if baseline else list(BASELINES)
    found: dict[tuple[str, str], float] = {}
    for name in reversed(names):
        for m in result.measurements:
            if m.contender == name and m.seconds:
                found[m.scenario, m.workload] = m.median
    return found


def _share_of_peak(result: Result, m: Measurement) -> str:
    """Operations of the linear layers a second, over the most that this machine's matrix products were seen to do."""
    flops = result.environment.get("artifact", {}).get("linear_flops")
    peak = result.environment.get("peak", {}).get(m.contender.rpartition(" ")[2])
    if not (flops and peak and m.contender.startswith("modernrank") and m.scenario != "cold"):
        return ""
    return f"{m.tokens_per_second * flops / peak / 1e9:.0%}"


def _latency(m: Measurement) -> str:
    shown = ", ".join(f"{name} {seconds * 1e3:,.1f}" for name, seconds in m.percentiles.items())
    return f"{shown} of {len(m.seconds)}"


def _stages(m: Measurement) -> str:
    total = sum(m.stages.values())
    return ", ".join(f"{name} {s / total:.1%}" for name, s in m.stages.items() if s >= 0.0005 * total) if total else ""


def _figure(m: Measurement, name: str, form: str) -> str:
    return format(m.fidelity[name], form) if name in m.fidelity else ""


def _environment(result: Result) -> str:
    found = result.environment
    machine = found["machine"]
    peak = ", ".join(f"{kind} {rate:,.0f} GOP/s" for kind, rate in found.get("peak", {}).items())
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    text = f"{machine['processor']}, {machine['threads']} threads; {versions}; commit {found['commit']}"
    return f"{text}; matrix products at most {peak}." if peak else f"{text}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:300]
