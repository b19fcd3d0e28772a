"""What the processes of a sequence-parallel group get and give each other: two processes, one of them forked."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from torch import distributed
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from lrf.errors import StageError
from lrf_training import processes, sequence_parallel
from lrf_training.prefix_sharing import SharedLayout
from lrf_training.sequence_parallel import gather_predicting_states, shard_batch, shard_inputs, use_group_batches


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """This process takes itself for this one of so many."""

    def be(rank: int, world: int) -> None:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))

    return be


def test_the_parts_of_a_batch_are_the_whole_and_no_label_is_lost_at_the_seam(as_rank: Any) -> None:
    ids = torch.arange(16).reshape(2, 8)
    parts = []
    for rank in range(4):
        as_rank(rank, 4)
        parts.append(shard_batch({"input_ids": ids, "labels": ids}, 2))
    assert torch.equal(torch.cat([parts[0]["input_ids"], parts[1]["input_ids"]], 1), ids)
    labels = torch.cat([parts[2]["shift_labels"], parts[3]["shift_labels"]], 1)
    assert torch.equal(labels[:, :-1], ids[:, 1:])
    assert (labels[:, -1] == sequence_parallel.IGNORE_INDEX).all()


def test_a_group_s_processes_get_the_same_batches_and_all_groups_together_get_every_row_once(as_rank: Any) -> None:
    seen = []
    for rank in range(4):
        as_rank(rank, 4)
        whole = BatchSampler(SequentialSampler(range(16)), batch_size=2, drop_last=False)
        mine = BatchSamplerShard(whole, num_processes=4, process_index=rank)
        trainer = SimpleNamespace(accelerator=SimpleNamespace())
        use_group_batches(trainer, 2)
        made = trainer.accelerator.deepspeed_ulysses_dl_adapter(DataLoader(range(16), batch_sampler=mine), None)
        made.set_epoch(1)
        batches = [batch.tolist() for batch in made]
        assert len(made) == len(batches) == 4
        seen.append(batches)
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert sorted(row for batch in seen[0] + seen[2] for row in batch) == list(range(16))


def of_two(rank: int, folder: Path) -> dict[str, Any]:
    """What a process of two sees: its part of a sequence, the collected states, and the words of the first."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    processes._patient_group.cache_clear()
    try:
        group = distributed.group.WORLD
        ids = torch.arange(5)[None]
        cut = shard_inputs(
            {"layout": SharedLayout(((5, ()),), torch.tensor([[1, 4]])), "input_ids": ids, "position_ids": ids}, group
        )
        states = cut["input_ids"][..., None].float()
        seen = {
            "part": cut["input_ids"].tolist(),
            "rows": cut["layout"].groups,
            "states": gather_predicting_states(states, torch.tensor([[1, 4]]), group).flatten().tolist(),
            "any": [processes.any_process(rank == 1), processes.any_process(False)],
            "first": processes.on_first_process(lambda: f"made by {rank}"),
        }
        processes.wait_for_all()
        try:
            processes.on_first_process(refuse)
        except StageError as error:
            seen["refused"] = str(error)
        return seen
    finally:
        processes._leave()


def refuse() -> None:
    raise StageError("no room")


@pytest.fixture
def environment() -> Iterator[None]:
    threads, before = torch.get_num_threads(), dict(os.environ)
    yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)
    processes._patient_group.cache_clear()


def test_two_processes_share_a_sequence_and_agree_on_what_the_first_one_made(tmp_path: Path, environment: None) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        other = pool.apply_async(of_two, (1, tmp_path))
        first, second = of_two(0, tmp_path), other.get(60)
    assert (first.pop("part"), second.pop("part")) == ([[0, 1, 2]], [[3, 4, 0]])
    assert first == second
    assert first["rows"] == ((5, ()), (1, ()))  # padding is a prompt without answers
    assert first["states"] == [1.0, 4.0]
    assert first["any"] == [True, False]
    assert first["first"] == "made by 0"
    assert first["refused"] == "no room"
