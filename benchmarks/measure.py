"""What every benchmark needs: whole processes timed from outside, medians, a table, a JSON file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS_VARIABLE = "EMBEDSEARCH_BENCHMARK_RESULTS"
"""Another folder for results, so that a test's are not taken for figures."""
RESULTS = Path(os.environ.get(RESULTS_VARIABLE, Path(__file__).parent / "results"))
EMBEDSEARCH = str(Path(sys.executable).with_name("embedsearch"))
LIBRARIES = (
    *("numpy", "pillow", "onnxruntime", "faiss-gpu", "faiss-cpu", "typer", "tokenizers"),
    *("openTSNE", "umap-learn", "scikit-learn", "torch", "timm"),
)


LAUNCHER = """
import os, sys, time
out, *command = sys.argv[1:]
null = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, null, 2)]
begun = time.perf_counter()
child = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - begun, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
"""A small process that starts the one to be measured: Linux counts to a process's peak what its
parent held when it was started."""


@dataclass(frozen=True)
class Process:
    """One finished process."""

    wall: float
    """Seconds."""
    peak: float
    """MB (10^6 bytes) of resident memory at most, by the kernel's own accounting."""
    output: str


def process(command: Sequence[str], **environment: str) -> Process:
    """Run a command to its end. Raises where it fails."""
    # What is installed has been compiled once; it is not to be compiled in each run.
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.NamedTemporaryFile() as output:
        launched = subprocess.run(
            [sys.executable, "-S", "-E", "-c", LAUNCHER, output.name, *command],
            capture_output=True,
            check=True,
            env=usual | environment,
        )
        wall, peak, code = launched.stdout.split()
        if int(code):
            raise RuntimeError(f"{' '.join(command)} ended with {int(code)}")
        unit = 1 if sys.platform == "darwin" else 1024
        return Process(float(wall), int(peak) * unit / 1e6, Path(output.name).read_text())


def interleaved(runs: int, **sides: Callable[[], float]) -> dict[str, list[float]]:
    """Call every side in turn, ``runs`` times after one warm-up, so that a machine that drifts
    drifts for all. Returns what they returned."""
    for side in sides.values():
        side()
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, side in sides.items():
            figures[name].append(side())
    return figures


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def ratios(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the ratios, pair by pair."""
    return median([a / b for a, b in zip(above, below, strict=True)])


def spread(values: Sequence[float], digits: int = 3) -> str:
    """``median (min-max)``."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def machine() -> dict[str, Any]:
    """Processor, cores, Python, library versions, date."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
        "date": date.today().isoformat(),
    }


def report(name: str, rows: Sequence[tuple[str, str, str]], figures: dict[str, Any]) -> None:
    """Print a table of (what, figure, bar) and write ``results/<name>.json``."""
    widths = [max(len(row[i]) for row in [("", "", "bar"), *rows]) for i in range(3)]
    print(f"{name}: {figures.pop('about', '')}")
    for what, figure, bar in rows:
        print(f"  {what:<{widths[0]}}  {figure:>{widths[1]}}  {bar}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    out = RESULTS / f"{name}.json"
    out.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n")
    print(f"  written to {os.path.relpath(out, RESULTS.parents[1])}")
