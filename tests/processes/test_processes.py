"""Fits that processes share, by torch.distributed with gloo, end where a fit of one process does."""

from __future__ import annotations

import importlib.util
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from skpartial._processes import ALONE, Processes, fitting_processes

FOLDER = Path(__file__).parent
# Seconds of the processes of a test; a machine that does something else beside may take several times as long as usual.
TIME_LIMIT = 120

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch was built without gloo"
)


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = load("cases")


def run_in_both(interpreters, script, folder, *arguments):
    """Run a script in two processes; how they ended, and what each of them said."""
    said = [folder / f"said by {rank}" for rank in range(2)]
    for rank, interpreter in enumerate(interpreters):
        interpreter.start(FOLDER / script, folder, rank, *arguments, output=said[rank])
    ended = [interpreter.wait(TIME_LIMIT) for interpreter in interpreters]
    return ended, [path.read_text() for path in said]


@pytest.fixture(scope="module")
def found_by_two(tmp_path_factory, interpreters):
    """What two processes find in every case, by name and rank."""
    folder = tmp_path_factory.mktemp("two")
    ended, said = run_in_both(interpreters, "cases.py", folder, 2)
    assert ended == [0, 0], "\n".join(said)

    def load_case(name, rank):
        with np.load(folder / f"{name} {rank}.npz") as archive:
            return dict(archive)

    return load_case


# What differs: draws of each process, norms of a piece, a seed that was not given, and what these cases are about.
OTHERS = {
    "dropout", "batch norm", "shards, batch norm", "seed", "choice of alpha", "other arguments", "counted",
    "shared products", "shards held",
}  # fmt: skip
EXACT = [name for name in cases.CASES if name not in OTHERS]


@pytest.mark.parametrize("name", EXACT)
def test_two_processes_find_what_one_does(found_by_two, name):
    expected = cases.run(name)
    for rank in range(2):
        found = found_by_two(name, rank)
        assert set(found) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5 * np.abs(value).max(), err_msg=key)


@pytest.mark.parametrize("name", ["dropout", "batch norm", "shards, batch norm", "seed", "choice of alpha"])
def test_what_is_drawn_or_seen_in_pieces_is_the_same_in_both(found_by_two, name):
    first, second = (found_by_two(name, rank) for rank in range(2))
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)


def test_scores_with_batch_norms_are_alike(found_by_two):
    # Every process norms its piece of eight images: another network, as it is with solver__accumulate.
    found, alone = (run["scores"][-1] for run in (found_by_two("batch norm", 0), cases.run("batch norm")))
    assert found == pytest.approx(alone, abs=0.1)


def test_shards_change_no_step(found_by_two):
    whole, divided = found_by_two("batch norm", 0), found_by_two("shards, batch norm", 0)
    for key, value in whole.items():
        np.testing.assert_allclose(divided[key], value, rtol=1e-5, atol=1e-5 * np.abs(value).max(), err_msg=key)


def test_processes_divide_parameters_and_moments(found_by_two):
    for rank in range(2):
        for held, of_all in found_by_two("shards held", rank).values():
            assert of_all > 1e7
            assert held == pytest.approx(of_all / 2, rel=0.01)
    for held, of_all in cases.run("shards held").values():
        assert held == of_all


def test_dropout_is_drawn_anew_in_every_process(found_by_two):
    found, alone = found_by_two("dropout", 0), cases.run("dropout")
    assert not np.allclose(found["coef"], alone["coef"], rtol=1e-5)
    assert found["loss"] == pytest.approx(alone["loss"], rel=0.05)


def test_every_process_has_its_share_of_the_rows(found_by_two):
    # Two epochs in batches of 64: of the last batch, of 45 rows, the first process has one more.
    assert [int(found_by_two("counted", rank)["rows"]) for rank in range(2)] == [2 * 151, 2 * 150]
    assert int(cases.run("counted")["rows"]) == 2 * 301
    assert [found_by_two("shared products", rank)["rows"].tolist() for rank in range(2)] == [[151], [150]]
    assert cases.run("shared products")["rows"].tolist() == [301]


def test_other_arguments_are_told(found_by_two):
    for rank in range(2):
        message = str(found_by_two("other arguments", rank)["message"])
        assert message == (
            "fit must be called with the same arguments in every process, but process 0 has 301 and process 1 has 300 "
            "(rows of X)."
        )


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_a_process_that_is_killed(tmp_path, interpreters):
    expected = load("checkpointed").fit()
    # The first one, which writes.
    ended, said = run_in_both(interpreters, "checkpointed.py", tmp_path, free_port(), 0)
    assert ended == [-signal.SIGKILL, 1], "\n".join(said)
    (sentence,) = [line for line in said[1].splitlines() if "exceptions.ProcessLostError" in line]
    assert "ProcessLostError: Another process of this fit has ended or does not answer (Connection closed" in sentence
    assert sentence.endswith("resumes from the last saved epoch.")
    (checkpoint,) = tmp_path.glob("checkpoints/*/*.pt")
    assert b"epoch 0000000002" in checkpoint.read_bytes()[-200:]

    ended, said = run_in_both(interpreters, "checkpointed.py", tmp_path, free_port(), "none")
    assert ended == [0, 0], "\n".join(said)
    for rank, words in enumerate(said):
        with np.load(tmp_path / f"{rank}.npz") as found:
            np.testing.assert_allclose(found["coef"], expected.coef_, rtol=1e-5, atol=1e-6)
            assert found["epochs"].tolist() == [1, 2, 3, 4, 5]
        # One prints, and it begins after the last epoch that was saved.
        assert [line.split()[1] for line in words.splitlines() if "epoch=" in line] == (
            ["epoch=3", "epoch=4", "epoch=5"] if rank == 0 else []
        )
    assert not list(tmp_path.glob("checkpoints/*"))


def test_shares():
    for n_rows in (0, 1, 7, 8):
        for size in (1, 2, 3):
            shares = [Processes(rank, size).share(n_rows) for rank in range(size)]
            assert [row for share in shares for row in range(n_rows)[share]] == list(range(n_rows))
            assert max(share.stop - share.start for share in shares) == ALONE.largest_share(-(-n_rows // size))


def test_a_process_that_is_alone(monkeypatch):
    assert fitting_processes() is ALONE
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert fitting_processes() is ALONE
    assert not dist.is_initialized()
