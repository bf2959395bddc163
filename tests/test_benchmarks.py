"""The benchmarks that need no photos of others run to their end, on little. Nothing is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("cold_query", ["--regions", "300", "--runs", "1"], "--json / bound"),
        ("rescan", ["--files", "40", "--runs", "1"], "ours / bare"),
        ("throughput", ["--small", "8", "--large", "2", "--runs", "1"], "of the bound"),
        ("encoder_cost", ["--runs", "2"], "package data"),
    ],
)
def test_a_benchmark_runs_and_writes_its_figures_with_the_machine(
    name: str, settings: list[str], told: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *settings],
        env=os.environ | {"EMBEDSEARCH_BENCHMARK_RESULTS": str(tmp_path / "results")},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
    figures = json.loads((tmp_path / "results" / f"{name}.json").read_text())
    assert figures["machine"]["cores"] >= 1 and len(figures) > 1
