"""The reward trainer: ratings in, a sequence classifier out that agrees with them on answers it has not seen."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import lrf
from lrf.errors import StageError
from lrf.protocols import Trainer, TrainingJob
from lrf.testing import DirectContext
from lrf.types import Candidate, Document, Sample
from lrf_classifier.dimension import Classifier
from lrf_classifier.settings import ClassifierSettings
from lrf_reward import held_out
from lrf_reward.objective import RewardCollator, preference_loss, rating_loss
from lrf_reward.rows import held_out_below, is_held_out
from lrf_reward.settings import RewardSettings
from lrf_reward.trainer import RewardTrainer

TINY = {"init": {"hidden": 32, "layers": 1, "heads": 4, "vocab": 300}, "global_batch": 8, "micro_batch": 8}
# With these every one of eight seeds learns the planted ratings (correlations above 0.99), on 1, 2 and 4 threads and
# with plain, AVX2 and AVX-512 kernels. With two heads and 5e-3 one seed of eight learned one of two ratings only.
LEARNS = {"learning_rate": 3e-3, "epochs": 8}
Row = dict[str, Any]


def trainer(**settings: Any) -> RewardTrainer:
    return RewardTrainer(RewardSettings.model_validate(TINY | {"gradient_checkpointing": False} | settings))


def scored_row(number: int, ratings: dict[str, float | None], answer: str, question: str = "?") -> Row:
    return {
        "sample_id": f"s{number}",
        "candidate_id": "0",
        "prompt": [{"role": "user", "content": question}],
        "answer": [{"role": "assistant", "content": answer}],
        "ratings": ratings,
    }


def planted(count: int, seed: int = 0) -> list[Row]:
    """Answers whose ratings are the shares of two letters in them; their length says nothing."""
    source = random.Random(seed)
    rows = []
    for number in range(count):
        length = source.randint(6, 14)
        clear, sound = source.random(), source.random()
        first = "".join(source.choices("ax", (clear, 1 - clear), k=length))
        second = "".join(source.choices("by", (sound, 1 - sound), k=length))
        ratings = {"helpfulness": 10 * first.count("a") / length, "logicality": 10 * second.count("b") / length}
        rows.append(scored_row(number, ratings, f"{first} {second}"))
    return rows


@pytest.fixture
def scored_job(job: Callable[..., TrainingJob], tmp_path: Path) -> Callable[..., TrainingJob]:
    """A job with these rows in its scored.jsonl."""

    def make(rows: list[Row], **fields: Any) -> TrainingJob:
        path = tmp_path / "scored.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return job([], scored=path, **fields)

    return make


def test_it_satisfies_the_protocol_and_says_what_it_reads() -> None:
    assert isinstance(trainer(), Trainer)
    assert RewardSettings.model_validate(TINY).reads == ("scored",)
    assert RewardSettings.model_validate(TINY | {"objective": "preferences"}).reads == ("pairs",)


async def test_a_model_distilled_from_planted_ratings_agrees_with_them_on_held_out_answers_and_is_a_dimension(
    scored_job,
) -> None:
    job = scored_job(planted(450), prompt_template_sha256=_sha256("<<question>>"))
    result = trainer(**LEARNS, held_out=0.2).train(job)
    for name in ("helpfulness", "logicality"):
        figures = result.metrics["held_out"][name]
        assert figures["answers"] > 60
        assert figures["pearson"] > 0.9
        assert figures["spearman"] > 0.9
        assert abs(figures["length_pearson"]) < 0.45
    rated = Classifier(
        ClassifierSettings(model=result.checkpoint, head="logicality", prompt_template="<<question>>", device="cpu")
    )
    good, bad = Candidate("0", "aaxxaaxxaa bbbbbbbbbb"), Candidate("1", "aaxxaaxxaa yyyyyyyyyy")
    sample = Sample("s", "?", (Document("0", "Any text."),), (good, bad))
    ratings = [(await rated.score(sample, c, DirectContext(sample))).rating for c in sample.candidates]
    assert ratings[0] > 7 > 3 > ratings[1]


def _sha256(template: str) -> str:
    from lrf.prompting.templates import Template

    return Template(template, ("context", "question")).sha256


def test_the_checkpoint_is_a_standard_sequence_classifier_with_an_output_a_dimension(scored_job) -> None:
    checkpoint = trainer(max_steps=1).train(scored_job(planted(20))).checkpoint
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    assert model.config.id2label == {0: "helpfulness", 1: "logicality"}
    assert model.config.problem_type == "regression"
    ids = AutoTokenizer.from_pretrained(checkpoint)("any words")["input_ids"]
    assert model(torch.tensor([ids])).logits.shape == (1, 2)


def pair_rows(count: int) -> list[Row]:
    """``count`` pairs of planted answers, whose chosen one is more helpful by 3 points of 10 or more."""
    rows: list[Row] = []
    for row, other in zip(planted(4 * count), planted(4 * count, seed=1), strict=True):
        better, worse = sorted((row, other), key=lambda r: -r["ratings"]["helpfulness"])
        if better["ratings"]["helpfulness"] - worse["ratings"]["helpfulness"] >= 3:
            answers = {"chosen": better["answer"], "rejected": worse["answer"]}
            rows.append({**row, **answers, "sample_id": f"s{len(rows)}"})
    return rows[:count]


def test_preferences_give_one_output_that_prefers_what_was_chosen(job) -> None:
    result = trainer(objective="preferences", **LEARNS, held_out=0.2).train(job(pair_rows(300)))
    assert result.metrics["outputs"] == ["reward"]
    assert result.metrics["held_out"]["accuracy"] > 0.85
    assert 0.25 < result.metrics["held_out"]["length_accuracy"] < 0.75


def test_an_answer_without_a_rating_is_counted_and_teaches_nothing(scored_job) -> None:
    rows = planted(20)
    rows[3]["ratings"] = {"helpfulness": None, "logicality": None}
    rows[4]["ratings"]["logicality"] = None
    metrics = trainer(max_steps=1, held_out=0).train(scored_job(rows)).metrics
    assert (metrics["answers"], metrics["unscored_answers"]) == (19, 1)
    assert metrics["on_training_rows"]["logicality"]["answers"] == 18
    assert math.isfinite(metrics["loss"])


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([], {}, "no answer has a rating"),
        ([scored_row(0, {"helpfulness": None}, "a")], {}, "no answer has a rating"),
        (planted(4), {"max_tokens": 10}, r"prompt and answer have \d+ tokens, more than max_tokens \(10\)"),
        ([{"sample_id": "s", "prompt": [], "answer": [], "ratings": {}}], {}, "prompt must be a list of messages"),
        ([{"sample_id": "s", **{k: [{"role": "user", "content": "a"}] for k in ("prompt", "answer")}}], {}, "ratings"),
    ],
)
def test_what_cannot_be_trained_on_is_named(scored_job, rows, settings, message) -> None:
    with pytest.raises(StageError, match=message):
        trainer(**settings, held_out=0).train(scored_job(rows))


@pytest.mark.parametrize("objective", ["ratings", "preferences"])
def test_a_training_that_was_stopped_resumes_to_the_same_weights(job, scored_job, objective: str) -> None:
    rows, make = (pair_rows(12), job) if objective == "preferences" else (planted(12), scored_job)
    settings = {"objective": objective, "save_every": 2, "max_steps": 5, "global_batch": 4, "micro_batch": 2}

    class StageStoppedError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.get("step") == 5 and "loss" in progress:
            raise StageStoppedError

    whole = trainer(**settings).train(make(rows, output="whole"))
    with pytest.raises(StageStoppedError):
        trainer(**settings).train(make(rows, output="halved", report=stop))
    on_the_way = AutoModelForSequenceClassification.from_pretrained(make(rows, output="halved").output / "checkpoint")
    assert on_the_way.config.lrf_reward["zero_at"] < on_the_way.config.lrf_reward["ten_at"]
    reports: list[Any] = []
    halved = trainer(**settings).train(make(rows, output="halved", report=reports.append))
    assert {"note": "training resumes from step 4"} in reports
    files = [(result.checkpoint / "model.safetensors").read_bytes() for result in (whole, halved)]
    assert files[0] == files[1]


def test_steps_whose_loss_is_no_number_stop_the_training_or_are_left_out_and_counted(scored_job) -> None:
    huge = {"learning_rate": 1e37, "max_steps": 3, "max_grad_norm": 1e30}
    good = trainer(max_steps=1).train(scored_job(planted(8))).checkpoint
    before = (good / "model.safetensors").read_bytes()
    with pytest.raises(StageError, match=r"the (loss|gradient) became (nan|inf) in step \d.*or set on_nan: skip"):
        trainer(**huge).train(scored_job(planted(8)))
    assert (good / "model.safetensors").read_bytes() == before
    assert trainer(**huge, on_nan="skip").train(scored_job(planted(8))).metrics["skipped_steps"] == 2


def test_how_a_batch_is_split_makes_no_difference_though_ratings_are_missing(scored_job) -> None:
    rows = planted(8)
    for row in rows[:3]:
        row["ratings"]["logicality"] = None
    found = []
    for micro_batch in (1, 8):
        settings = {"micro_batch": micro_batch, "max_steps": 2, "held_out": 0, "learning_rate": 1e-3}
        result = trainer(**settings).train(scored_job(rows, output=f"out-{micro_batch}"))
        found.append([json.loads(line)["loss"] for line in (result.checkpoint.parent / "training_log.jsonl").open()])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_held_out_rows_are_evaluated_in_micro_batches(scored_job, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    collate = RewardCollator.__call__

    def counted(self: RewardCollator, rows: Any) -> Any:
        sizes.append(len(rows))
        return collate(self, rows)

    monkeypatch.setattr(RewardCollator, "__call__", counted)
    metrics = trainer(micro_batch=2, global_batch=2, max_steps=1, held_out=0.5).train(scored_job(planted(20))).metrics
    assert metrics["held_out"]["helpfulness"]["answers"] > 2
    assert max(sizes) == 2


def test_a_pair_without_difference_stops_the_training_or_is_left_out_and_counted(job) -> None:
    rows = pair_rows(4)
    rows[2]["rejected"] = rows[2]["chosen"]
    settings = {"objective": "preferences", "held_out": 0, "max_steps": 1}
    with pytest.raises(StageError, match=r"pairs.jsonl:3 \(sample s2\): chosen and rejected are the same; mend"):
        trainer(**settings).train(job(rows))
    metrics = trainer(**settings, on_bad_row="drop", max_lost=0.3).train(job(rows)).metrics
    assert (metrics["pairs"], metrics["lost_pairs"], metrics["lost_tokens"] > 0) == (3, 1, True)


def held_out_of(ids: list[str], seed: int, share: float) -> list[str]:
    below = held_out_below(ids, seed, share)
    return [name for name in ids if is_held_out(name, seed, below)]


def test_a_share_of_the_samples_is_held_out_and_always_the_same_ones() -> None:
    ids = [f"s{n}" for n in range(2000)]
    apart = held_out_of(ids, 7, 0.2)
    assert 330 < len(apart) < 470
    assert apart == held_out_of(ids, 7, 0.2) != held_out_of(ids, 8, 0.2)
    assert held_out_of(ids, 7, 0.0) == []
    more = held_out_of([*ids, *(f"t{n}" for n in range(2000))], 7, 0.2)
    assert [name for name in more if name.startswith("s")] == apart


@given(st.integers(5, 40), st.integers(0, 99), st.floats(0.001, 0.999))
def test_of_few_samples_at_least_one_is_held_out_and_one_trained_on(count: int, seed: int, share: float) -> None:
    assert 0 < len(held_out_of([f"s{n}" for n in range(count)], seed, share)) < count


@pytest.mark.parametrize("objective", ["ratings", "preferences"])
def test_fewer_samples_than_can_be_held_out_are_refused_with_what_to_do(job, scored_job, objective: str) -> None:
    few = scored_job(planted(4)) if objective == "ratings" else job(pair_rows(4))
    with pytest.raises(
        StageError, match=r"jsonl: 4 samples are too few to hold some out .* 5 at least, or set `held_o"
    ):
        trainer(objective=objective).train(few)


def test_only_targets_that_are_there_count_in_the_loss() -> None:
    nan = float("nan")
    logits, targets = torch.tensor([[0.0, 9.0], [1.0, 1.0]]), torch.tensor([[0.5, nan], [1.0, 0.0]])
    assert rating_loss(logits, targets).item() == pytest.approx((0.25 + 0 + 1) / 3)


def test_the_preference_loss_is_bradley_and_terrys() -> None:
    logits = torch.tensor([[2.0], [0.0], [1.0], [0.5]])
    expected = -(math.log(1 / (1 + math.exp(-1))) + math.log(1 / (1 + math.exp(0.5)))) / 2
    assert preference_loss(logits).item() == pytest.approx(expected)


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=5))
def test_a_batch_pads_at_the_right_and_hides_the_padding(rows: list[list[int]]) -> None:
    batch = RewardCollator(pad=0)([{"input_ids": ids, "targets": [0.5]} for ids in rows])
    for ids, padded, mask in zip(rows, batch["input_ids"].tolist(), batch["attention_mask"].tolist(), strict=True):
        assert padded == ids + [0] * (len(padded) - len(ids))
        assert mask == [1] * len(ids) + [0] * (len(padded) - len(ids))


def test_where_a_side_does_not_vary_there_is_no_correlation() -> None:
    assert held_out.pearson([1, 1], [1, 2]) is None
    assert held_out.pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert held_out.preference_metrics([])["accuracy"] is None


def test_settings_need_a_model_to_start_from() -> None:
    with pytest.raises(ValidationError, match=r"give `policy\.model`"):
        RewardSettings.model_validate({}, context={"policy_model": None})


def test_what_chooses_the_checkpoint_is_neither_trained_on_nor_what_its_agreement_is_measured_on(scored_job) -> None:
    done = scored_job(planted(40))
    evaluation = {"held_out": 0.2, "every": 1, "keep_best": 1, "patience": 2}
    settings = {"held_out": 0.2, "max_steps": 3, "learning_rate": 0.05, "scheduler": "constant"}
    metrics = trainer(**settings, evaluation=evaluation).train(done).metrics
    log = [json.loads(line) for line in (done.output / "evaluations.jsonl").read_text().splitlines()]
    lowest = min(log, key=lambda line: line["loss"])
    assert (metrics["best_step"], metrics["best_held_out_loss"]) == (lowest["step"], lowest["loss"])
    counts = metrics["answers"], metrics["held_out_rows"], metrics["held_out"]["helpfulness"]["answers"]
    assert min(counts) > 0
    assert sum(counts) == 40
    info = json.loads((done.output / "checkpoint" / "config.json").read_text())["lrf_reward"]
    assert info["agreement"] == metrics["held_out"]
    assert (done.output / "best" / f"step-{lowest['step']}" / "config.json").read_text() == (
        done.output / "checkpoint" / "config.json"
    ).read_text()


LEAVES_OUT = (  # the system's turns, and what an answer says before </think>
    "{% for m in messages if m.role != 'system' %}### {{ m.role }}\n{{ m.content.split('</think>')[-1] }}\n{% endfor %}"
)


def test_an_answer_of_which_the_template_leaves_out_a_part_is_not_rated_for_what_it_says(
    scored_job, tmp_path: Path
) -> None:
    (tmp_path / "leaves.jinja").write_text(LEAVES_OUT)
    rows = planted(12)
    rows[0]["prompt"].insert(0, {"role": "system", "content": "Be brief."})
    settings = {"chat_template": tmp_path / "leaves.jinja", "held_out": 0, "max_steps": 1}
    metrics = trainer(**settings).train(scored_job(rows)).metrics
    assert metrics["prompts_changed_by_template"] == 1
    rows[1]["answer"][0]["content"] = "<think>\nHm.\n</think>\nYes."
    with pytest.raises(StageError, match=r"scored.jsonl:2 \(sample s1\): .*leaves out a part.*lost is '\\nHm|Hm.*drop"):
        trainer(**settings).train(scored_job(rows, output="again"))
    metrics = trainer(**settings, on_bad_row="drop", max_lost=0.1).train(scored_job(rows, output="drop")).metrics
    assert metrics["lost_by_reason"] == {"the chat template leaves out a part of an answer": 1}


@pytest.mark.slow
def test_a_run_distils_its_own_ratings_once_and_the_next_rates_by_them(project) -> None:
    project.write_data(rows=6)
    pipeline = project.pipeline(pairs=None, train={"type": "reward", **TINY, "max_steps": 2, "held_out": 0.3})
    summary = lrf.run(pipeline, runs=project.runs)
    assert (summary.status, summary.message) == ("finished", "")
    made = (project.run_dir / "policy" / "reward" / "checkpoint").stat().st_mtime_ns
    lrf.run(pipeline, runs=project.runs)
    assert (project.run_dir / "policy" / "reward" / "checkpoint").stat().st_mtime_ns == made
    assert set(summary.stages["train"]["held_out"]) == {"helpfulness", "logicality"}
    rewards, scored = project.lines("rewards.jsonl"), project.lines("scored.jsonl")
    assert [(r["candidate_id"], r["ratings"]) for r in scored] == [(r["candidate_id"], r["ratings"]) for r in rewards]
    assert scored[0]["prompt"][0]["content"].startswith("The contract of 100")

    head = {
        "type": "classifier",
        "model": str(project.run_dir / "policy" / "reward" / "checkpoint"),
        "head": "logicality",
    }
    again = lrf.run(project.pipeline(name="next", judges=None, dimensions=[head]), runs=project.runs)
    assert (again.status, again.message) == ("finished", "")
    assert again.stages["score"]["unscored"] == 0


def test_with_adapters_the_head_learns_too_and_a_whole_model_comes_out(scored_job) -> None:
    settings = {"lora": {"rank": 4, "merge": True}, "learning_rate": 1e-2, "scheduler": "constant"}
    models = []
    for steps in (1, 3):
        result = trainer(**settings, max_steps=steps).train(scored_job(planted(24), output=f"{steps} steps"))
        model, report = AutoModelForSequenceClassification.from_pretrained(result.checkpoint, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        assert model.config.lrf_reward["zero_at"] == -1.0
        models.append(model)
    moved = {name for name, weight in models[0].named_parameters() if not weight.equal(models[1].get_parameter(name))}
    assert "score.weight" in moved
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in moved} >= {"q_proj", "v_proj"}
    assert not any("norm" in name or "embed" in name for name in moved)


def test_memory_that_runs_out_in_the_evaluation_leaves_the_model_that_was_trained(
    scored_job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(held_out, "predictions", fails)
    done = scored_job(planted(12))
    with pytest.raises(StageError, match="the reward model is saved, but memory ran out while it was evaluated"):
        trainer(max_steps=1).train(done)
    model = AutoModelForSequenceClassification.from_pretrained(done.output / "checkpoint")
    assert model.config.lrf_reward is None
