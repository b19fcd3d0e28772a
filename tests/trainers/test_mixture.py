"""Several sources with weights, and pairs of one prompt in one micro-batch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import StageError
from lrf_dpo.sampler import PairSampler
from lrf_dpo.settings import DPOSettings
from lrf_dpo.trainer import DPO
from lrf_training.mixture import Mixture

TINY: dict[str, Any] = {
    "init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320},
    "global_batch": 2,
    "max_steps": 1,
}


def numbers(path: Path) -> Iterator[str]:
    yield from (f"{path.name}{n}" for n in range(1000))


@given(weight=st.floats(0, 4), seed=st.integers(0, 2**40))
def test_a_row_comes_as_often_as_its_sources_weight_says(weight: float, seed: int) -> None:
    mixture = Mixture([(Path("a"), weight, numbers)], seed)
    taken = Counter(mixture)
    assert set(taken.values()) <= {int(weight), int(weight) + 1}
    assert abs(taken.total() - 1000 * weight) < 100
    assert mixture.counts == {"a": (1000, taken.total())}


def test_the_seed_alone_decides_which_rows_are_taken() -> None:
    files = [(Path("a"), 0.5, numbers), (Path("b"), 0.5, numbers)]
    one, same, other = (list(Mixture(files, seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert {row[1:] for row in one if row[0] == "a"} != {row[1:] for row in one if row[0] == "b"}


def test_pairs_of_other_files_are_trained_on_and_counted(job, row, tmp_path: Path) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text("".join(json.dumps(row(n, prompt_template_sha256="another")) + "\n" for n in range(10, 13)))
    own = job([row(0), row(1)])
    settings = DPOSettings.model_validate(TINY | {"sources": [{"path": str(short), "weight": 2}]})
    metrics = DPO(settings).train(own).metrics
    assert metrics["pairs"] == 2 + 6
    assert metrics["sources"] == {str(own.pairs): {"rows": 2, "taken": 2}, str(short): {"rows": 3, "taken": 6}}


def test_a_source_that_is_not_there_stops_and_is_named(job, row, tmp_path: Path) -> None:
    settings = DPOSettings.model_validate(TINY | {"sources": [{"path": str(tmp_path / "none.jsonl")}]})
    with pytest.raises(StageError, match=r"none\.jsonl: No such file"):
        DPO(settings).train(job([row()]))


prompts = st.lists(st.integers(0, 8).map(str), min_size=1, max_size=40)


@given(prompts=prompts, size=st.integers(1, 5), seed=st.integers(0, 100), epoch=st.integers(0, 3))
def test_every_pair_comes_once_an_epoch(prompts: list[str], size: int, seed: int, epoch: int) -> None:
    order = PairSampler(prompts, size, seed)
    order.epoch = epoch
    first = list(order)
    assert sorted(first) == list(range(len(prompts)))
    assert list(order) == first


def test_pairs_of_a_prompt_come_together_where_they_fit() -> None:
    prompts = [str(n // 4) for n in range(40)]
    order = iter(PairSampler(prompts, 4, seed=3))
    while batch := list(islice(order, 4)):
        assert len({prompts[n] for n in batch}) == 1


def test_steps_are_the_same_whatever_the_micro_batch_where_no_prompt_has_several_pairs() -> None:
    orders = {tuple(PairSampler(range(20), size, seed=3)) for size in (1, 2, 4)}
    assert len(orders) == 1


def test_another_epoch_has_another_order() -> None:
    order = PairSampler([str(n) for n in range(20)], 2, seed=3)
    first = list(order)
    order.epoch = 1
    assert list(order) != first


def test_a_prompt_of_several_pairs_is_forwarded_once_with_the_same_figures(job, row) -> None:
    rows = [row(n % 2, words=(40, 6, 9)) | {"rejected": row(n)["rejected"]} for n in range(2, 6)]

    def train(sharing: str) -> Any:
        settings = DPOSettings.model_validate(
            TINY | {"prefix_sharing": sharing, "prompts_together": True, "micro_batch": 2, "max_steps": 3}
        )
        reports: list[Any] = []
        DPO(settings).train(job(rows, output=sharing, report=reports.append))
        return [r for r in reports if "loss" in r]

    for plain, shared in zip(train("off"), train("on"), strict=True):
        assert shared["loss"] == pytest.approx(plain["loss"], abs=1e-5)
        assert shared["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-4)
