from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import two_processes

from embedsearch.errors import DataError
from embedsearch.training.distributed import collectives, placement
from embedsearch.training.distributed.pipelining import Pipeline, cut
from embedsearch.training.distributed.ranks import Ranks, is_main, ranks
from embedsearch.training.distributed.rendezvous import joined

STRATEGIES = ("ddp", "fsdp", "pipeline")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--max-restarts", "1"]
TORCHRUN += ["--monitor-interval", "0.1"]


def launched(mode: str, out: Path) -> dict[str, Any]:
    """What two processes on this machine's CPU say, started as a user starts them."""
    done = subprocess.run(
        [
            *TORCHRUN,
            "--standalone",
            "--nproc-per-node",
            "2",
            str(Path(two_processes.__file__)),
            mode,
            str(out),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,  # of a machine with much else to do
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads((out / f"{mode}.json").read_text())
    return told


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("two")
    two_processes.trained(out / two_processes.ALONE, ema=0.5, stops=True)
    return launched("all", out)


def same(first: dict[str, list[float]], second: dict[str, list[float]], by: float) -> None:
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=by, err_msg=name)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_gradients_of_two_processes_are_those_of_one_with_twice_the_batch(
    two: dict[str, Any], strategy: str
) -> None:
    alone = two_processes.gradients("ddp")
    assert max(map(abs, alone["log_scale"])) > 1e-4
    same(two[f"gradients {strategy}"], alone, 1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pictures_are_mixed_with_those_before_them_of_other_processes_too(
    two: dict[str, Any], strategy: str
) -> None:
    alone = two_processes.gradients("ddp", kind=two_processes.Mixed)
    assert alone["image.head.weight"] != two_processes.gradients("ddp")["image.head.weight"]
    same(two[f"gradients mixed {strategy}"], alone, 1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_teacher_asked_live_says_to_two_processes_what_it_says_to_one(
    two: dict[str, Any], strategy: str
) -> None:
    alone = two_processes.gradients("ddp", kind=two_processes.Taught)
    assert max(map(abs, alone["image.head.weight"])) > 1e-4
    same(two[f"gradients taught {strategy}"], alone, by=1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_maps_of_two_processes_are_compared_as_those_of_one(
    two: dict[str, Any], strategy: str
) -> None:
    alone = two_processes.gradients("ddp", kind=two_processes.Hinted)
    same(two[f"gradients hinted {strategy}"], alone, by=1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_pictures_that_pass_in_pieces_give_the_gradients_of_the_whole_batch(
    two: dict[str, Any], strategy: str
) -> None:
    alone = two_processes.gradients("ddp")
    same(two_processes.gradients("ddp", kind=two_processes.InPieces), alone, 1e-6)
    same(two[f"gradients in pieces {strategy}"], alone, 1e-6)


@pytest.mark.parametrize("strategy", ["", " fsdp"])
def test_gradients_exchanged_after_the_last_of_two_passes_are_their_sum(
    two: dict[str, Any], strategy: str
) -> None:
    same(
        two[f"gradients accumulated{strategy}"], two_processes.gradients("ddp", accumulate=2), 1e-6
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_of_two_processes_ends_where_one_process_does(
    two: dict[str, Any], strategy: str, tmp_path: Path
) -> None:
    alone = two_processes.trained(tmp_path, ema=0.5)
    together = two[f"trained {strategy}"]
    assert len(set(alone["losses"])) == 6
    np.testing.assert_allclose(together["losses"], alone["losses"], atol=1e-5)
    same(together["weights"], alone["weights"], 2e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stages_stay_frozen_or_thaw_later_in_two_processes_as_in_one(
    two: dict[str, Any], strategy: str, tmp_path: Path
) -> None:
    alone, together = two_processes.trained(tmp_path, thaws=True), two[f"thawed {strategy}"]
    start = {
        name: value.flatten().tolist()
        for name, value in two_processes.Contrast().state_dict().items()
    }
    moved = {name for name in start if alone["weights"][name] != start[name]}
    assert moved == {
        f"image.{part}.{of}" for part in ("network.1.0", "head") for of in ("weight", "bias")
    }
    np.testing.assert_allclose(together["losses"], alone["losses"], atol=1e-5)
    same(together["weights"], alone["weights"], 2e-5)


def test_fsdp_gives_the_losses_of_ddp(two: dict[str, Any]) -> None:
    np.testing.assert_allclose(
        two["trained fsdp"]["losses"], two["trained ddp"]["losses"], atol=1e-6
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    two: dict[str, Any], strategy: str
) -> None:
    resumed, unbroken = two[f"resumed {strategy}"], two[f"trained {strategy}"]
    assert len(resumed["losses"]) == 6
    assert resumed["losses"] == unbroken["losses"]
    assert resumed["weights"] == unbroken["weights"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_go_on_where_one_was_stopped(
    two: dict[str, Any], strategy: str, tmp_path: Path
) -> None:
    alone, resumed = two_processes.trained(tmp_path, ema=0.5), two[f"resumed {strategy} of one"]
    assert resumed["losses"][:3] == alone["losses"][:3]
    np.testing.assert_allclose(resumed["losses"], alone["losses"], atol=1e-5)
    same(resumed["weights"], alone["weights"], 2e-5)


def test_a_killed_process_comes_back_and_the_run_ends_with_the_same_figures(
    two: dict[str, Any], tmp_path: Path
) -> None:
    broken = launched("killed", tmp_path)
    assert broken["restarts"] == 1
    unbroken = two["trained unbroken"]
    assert broken["losses"] == unbroken["losses"]
    assert broken["weights"] == unbroken["weights"]
    assert broken["epochs"] == unbroken["epochs"]


def test_a_machine_that_takes_the_place_of_a_lost_one_goes_on_with_the_other(
    two: dict[str, Any], tmp_path: Path
) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [*TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }

    def machine(mode: str, *, hosts: bool = False) -> subprocess.Popen[str]:
        settings = ["--rdzv-conf", f"is_host={int(hosts)}", "--local-addr", "127.0.0.1"]
        return subprocess.Popen(
            [*command, *settings, str(Path(two_processes.__file__)), mode, str(tmp_path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    machines = [machine("trained", hosts=True), machine("lost")]
    try:
        machines[1].communicate(timeout=200)
        assert machines[1].returncode == -signal.SIGKILL
        machines.append(machine("trained"))
        for one in (machines[0], machines[2]):
            said = one.communicate(timeout=200)[1]
            assert one.returncode == 0, said[-3000:]
    finally:
        for one in machines:
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGKILL)
                one.communicate()
    together = json.loads((tmp_path / "trained.json").read_text())
    assert together["restarts"] == 1
    unbroken = two["trained unbroken"]
    assert together["losses"] == unbroken["losses"]
    assert together["weights"] == unbroken["weights"]


def test_a_process_alone_gathers_and_shares_nothing() -> None:
    rows = torch.arange(6.0).reshape(3, 2)
    assert collectives.gather_with_gradient(rows) is rows
    assert collectives.gather(rows) is rows
    assert collectives.share([1, 2, 3]) == [1, 2, 3]
    assert ranks() == Ranks()
    assert is_main()
    assert collectives.mean(2.5) == 2.5
    assert collectives.from_main("told") == "told"


def test_a_rank_that_is_no_number_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(DataError, match="Use torchrun"):
        ranks()


def test_a_machine_whose_name_is_its_own_loopback_address_is_told_what_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setattr("socket.gethostbyname", lambda name: "127.0.1.1")
    with (
        pytest.raises(DataError, match=r"127\.0\.1\.1.*GLOO_SOCKET_IFNAME=eth0"),
        joined(torch.device("cpu")),
    ):
        raise AssertionError("it went on")


def test_a_strategy_that_there_is_not_is_a_named_error() -> None:
    with pytest.raises(DataError, match="ddp, fsdp, pipeline"):
        placement.place(torch.nn.Linear(1, 1), torch.device("cpu"), "dpp")


def test_a_pipeline_takes_no_other_pieces() -> None:
    with pytest.raises(DataError, match=r"leave optimisation\.pieces out"):
        Pipeline(two_processes.InPieces().image, torch.device("cpu"), pieces=4)


def test_stages_are_cut_where_the_heaviest_part_is_lightest() -> None:
    assert cut([1, 1, 1, 9], 2) == [0, 3, 4]
    assert cut([9, 1, 1, 1], 2) == [0, 1, 4]
    assert cut([2, 2, 2, 2, 2, 2], 3) == [0, 2, 4, 6]
    assert cut([5, 5], 2) == [0, 1, 2]
