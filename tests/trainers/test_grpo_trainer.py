"""GRPO with lrf's rewards: TRL's loss with the prompt forwarded once, unscored answers outside of it, and resuming."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoTokenizer

from lrf.errors import JudgeSilentError, StageError
from lrf.protocols import Answers, TrainingJob
from lrf.types import Reward, Unscored
from lrf_grpo.settings import GRPOSettings
from lrf_grpo.trainer import GRPO

TINY: dict[str, Any] = {
    "init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320},
    "group": 4,
    "global_batch": 2,
    "answer_tokens": 6,
    "learning_rate": 1e-3,
    "max_steps": 3,
    "save_every": 1,
    "patience": 0,
}

Rate = Callable[[Answers, int], float | None]


class Judge:
    """Rewards by a function of the answers and an answer's number; ``asked`` has all texts, a list a call."""

    dimensions = ("d",)

    def __init__(self, rate: Rate = lambda answers, n: float(len(answers.texts[n])), away_at: int = 0) -> None:
        self.rate, self.away_at, self.asked = rate, away_at, list[list[tuple[int, list[str]]]]()

    def score(self, answers: Sequence[Answers]) -> list[tuple[Reward, ...]]:
        if len(self.asked) + 1 == self.away_at:
            raise JudgeSilentError("judges.main has served nothing for 300 s")
        self.asked.append([(one.place, list(one.texts)) for one in answers])
        return [tuple(self._reward(one, n) for n in range(len(one.texts))) for one in answers]

    def _reward(self, answers: Answers, n: int) -> Reward:
        value = self.rate(answers, n)
        return Reward("s", str(n), value, {"d": value}, None if value is not None else Unscored("d", "unreadable"))

    def costs(self) -> dict[str, Any]:
        return {"usage": {"calls": len(self.asked), "reused": 0}}


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """Trains on four prompts; returns the output folder, ``name`` in the test's."""
    prompts = tmp_path / "prompts.jsonl"

    def run(judge: Judge, name: str = "out", count: int = 4, **settings: Any) -> Path:
        rows = [{"sample_id": f"s{n}", "prompt": [{"role": "user", "content": "abc " * (4 + n)}]} for n in range(count)]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        job = TrainingJob(tmp_path / "none", tmp_path / name, None, 7, "", prompts=prompts, rewards=judge)
        GRPO(GRPOSettings.model_validate(TINY | settings)).train(job)
        return job.output

    return run


def weights(output: Path) -> bytes:
    return (output / "checkpoint" / "model.safetensors").read_bytes()


def lines(output: Path, name: str = "rollouts") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / f"{name}.jsonl").read_text().splitlines()]


def test_a_judge_that_goes_away_stops_a_training_which_resumes_to_the_same_weights(train: Callable[..., Path]) -> None:
    whole, before, after = Judge(), Judge(away_at=3), Judge()
    output = train(whole)
    with pytest.raises(StageError, match=r"served nothing for 300 s\. Training is saved at step 2: the same command"):
        train(before, "stopped")
    with (output.parent / "stopped" / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 3, "reward": 1}\n{"step"')  # as a process leaves it that is killed later
    resumed = train(after, "stopped")
    assert before.asked + after.asked == whole.asked
    assert weights(resumed) == weights(output)
    assert lines(resumed) == lines(output)
    assert len(lines(output)) == 3 * 2 * 4
    assert not (output / "answers").exists()


def test_answers_that_were_written_since_the_last_state_are_not_written_anew(
    train: Callable[..., Path], tmp_path: Path
) -> None:
    """On a GPU the same seed needn't write the same answers again, and others would have to be paid for."""
    after = Judge()
    with pytest.raises(StageError, match="saved at step 1"):
        train(Judge(away_at=2), max_steps=2)
    kept = tmp_path / "out" / "answers" / "1-0.json"
    row = json.loads(kept.read_text())
    row["answers"] = [[65 + n] for n in range(len(row["answers"]))]  # as if another GPU had written them
    kept.write_text(json.dumps(row))
    tokenizer = AutoTokenizer.from_pretrained(train(after, max_steps=2) / "checkpoint")
    written = [text for _, texts in after.asked[0] for text in texts]
    assert written == [tokenizer.decode(answer) for answer in row["answers"]]


def test_unscored_answers_change_neither_the_others_statistics_nor_the_loss(train: Callable[..., Path]) -> None:
    """A group of four of which one is unscored makes the step that the other three make."""
    output = train(Judge(lambda answers, n: None if n == 1 else float(n)), max_steps=1)
    assert [row["reward"] for row in lines(output)] == [0.0, None, 2.0, 3.0] * 2
    assert lines(output)[1]["unscored"]["reason"] == "unreadable"
    log = lines(output, "training_log")[0]
    assert log["reward"] == pytest.approx(5 / 3)
    assert log["unscored"] == pytest.approx(0.25)


def test_a_step_of_which_nothing_can_be_scored_stops_the_training(train: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match=r"none of the 8 answers of step 1 could be scored \(unreadable: 8\)") as stop:
        train(Judge(lambda answers, n: None))
    assert stop.value.exit_code == 3


def test_the_policy_of_the_highest_held_out_reward_is_kept_and_patience_ends_training_early(
    train: Callable[..., Path],
) -> None:
    held_out: list[tuple[int, Any]] = []
    seen = {"training": set[int](), "evaluation": set[int]()}

    def rate(answers: Answers, n: int) -> float | None:
        kind, step = answers.name.split("-")
        seen["evaluation" if kind == "evaluation" else "training"].add(answers.place)
        if kind == "step":
            return float(n)
        held_out.append((int(step), list(answers.texts)))
        return {1: 3.0, 2: 5.0}.get(int(step), 4.0) if answers.place % 2 else None

    settings = {"evaluation": {"held_out": 0.4, "every": 1, "patience": 1, "keep_best": 1}, "learning_rate": 0.1}
    output = train(Judge(rate), count=9, max_steps=9, **settings)
    found = lines(output, "evaluations")
    assert [(line["step"], line["reward"], line["rewards/d"]) for line in found] == [(1, 3, 3), (2, 5, 5), (3, 4, 4)]
    assert not seen["training"] & seen["evaluation"]
    assert all(len(texts) == 1 for _, texts in held_out)
    assert len(held_out) == 3 * len(seen["evaluation"]) == 3 * 3
    assert [path.name for path in (output / "best").iterdir()] == ["step-2"]
    assert weights(output) == (output / "best" / "step-2" / "model.safetensors").read_bytes()
    assert len(lines(output, "training_log")) == 3


def test_a_judge_that_goes_away_while_held_out_answers_are_rated_costs_no_step(train: Callable[..., Path]) -> None:
    settings: dict[str, Any] = {"evaluation": {"every": 2}, "max_steps": 4, "save_every": None}
    whole = train(Judge(), count=6, **settings)
    with pytest.raises(StageError, match="Training is saved at step 2"):
        train(Judge(away_at=3), "stopped", count=6, **settings)
    assert weights(train(Judge(), "stopped", count=6, **settings)) == weights(whole)


def test_a_plan_counts_what_evaluations_ask_for() -> None:
    settings = GRPOSettings.model_validate(TINY | {"max_steps": 100, "evaluation": {"held_out": 0.1, "every": 20}})
    assert settings.rollouts(200).prompts == 100 * 2 + 20 * 5 / 4


def test_a_constant_judge_moves_nothing(train: Callable[..., Path]) -> None:
    output = train(Judge(lambda answers, n: 5.0), save_every=None)
    assert weights(output) == weights(train(Judge(lambda answers, n: 7.0), "other", save_every=None))
    assert [line["grad_norm"] for line in lines(output, "training_log")] == [0.0] * 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"zero": 3, "sequence_parallel": 2}, "TRL's GRPOTrainer refuses sequence_parallel"),
        ({"method": "rloo", "loss": "grpo"}, "are of method: grpo"),
        ({"method": "online_dpo"}, "needs a beta above 0"),
        ({"normalize": "dimension"}, "needs `weights`"),
        ({"iterations": 2, "save_every": 3}, "must be a multiple of iterations"),
        ({"weights": {"d": 0.0}}, "all are 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GRPOSettings.model_validate(TINY | settings)


def test_more_prompts_a_step_than_there_are_is_a_sentence(train: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match="a step takes 8 prompts, and there are 4; set it to 4 or less"):
        train(Judge(), global_batch=8)


def trainer_of(folder: Path, shared: bool, **online: Any) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig

    from lrf_grpo.asking import Weighing
    from lrf_grpo.objective import GroupTrainer
    from lrf_grpo.rollouts import Rollouts
    from lrf_grpo.shared import SharedGroups
    from lrf_training.models import new_model, new_tokenizer

    settings = GRPOSettings.model_validate(TINY | online)
    assert settings.init is not None
    tokenizer = new_tokenizer(["x"], settings.init)
    trainer = GroupTrainer(
        online=settings,
        seed=0,
        asking=None,
        weighing=Weighing(("d",)),
        rollouts=Rollouts(folder, ""),
        model=new_model(tokenizer, settings.init, 64, 1),
        args=GRPOConfig(
            str(folder),
            num_generations=4,
            per_device_train_batch_size=8,
            use_cpu=True,
            bf16=False,
            report_to="none",
            loss_type=settings.loss,
            num_iterations=settings.iterations,
            scale_rewards="group" if settings.method == "grpo" else "none",
            reward_weights=[1.0, 0.0],
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": [2, 3], "place": [0]}]),
        processing_class=tokenizer,
    )
    if shared:
        trainer.shared = SharedGroups(tokenizer.pad_token_id)
        trainer.shared.prepare(trainer.model)
    trainer.use_reference(new_model(tokenizer, settings.init, 64, 2))
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo"])
def test_loss_and_gradients_are_trls_when_the_prompt_is_forwarded_once(tmp_path: Path, loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([6, 3, 6, 1, 5, 5, 2, 0])  # the last one is masked: nothing of it may count
    answers = torch.randint(5, 200, (8, 6), generator=generator)
    mask = (torch.arange(6) < lengths[:, None]).long()
    prompts = torch.randint(5, 200, (2, 9), generator=generator).repeat_interleave(4, 0)
    prompt_mask = torch.ones_like(prompts)
    prompt_mask[4:, :3] = 0  # the second prompt is shorter
    batch = {
        "prompt_ids": prompts,
        "prompt_mask": prompt_mask,
        "completion_ids": answers,
        "completion_mask": mask,
        "advantages": torch.randn(8, generator=generator),
        "num_items_in_batch": mask.sum(),
        "loss_scale": torch.tensor(8 / 7),
        "old_per_token_logps": -5 + torch.randn(8, 6, generator=generator) / 10,
    }
    results = []
    for shared in (True, False):
        trainer = trainer_of(tmp_path, shared, beta=0.1, loss=loss)
        ids, masks = torch.cat([prompts, answers], 1), torch.cat([prompt_mask, mask], 1)
        with torch.no_grad():
            reference, _, _ = trainer._get_per_token_logps_and_entropies(trainer.ref_model, ids, masks, 6)
        value = trainer._compute_loss(trainer.model, batch | {"ref_per_token_logps": reference})
        value.backward()
        gradients = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
        results.append((value.detach(), gradients, trainer._metrics["train"]["entropy"]))
    (value, gradients, entropy), (expected, expected_gradients, expected_entropy) = results
    assert abs(value - expected) <= 1e-5 * abs(expected)
    assert (gradients - expected_gradients).norm() <= 1e-5 * expected_gradients.norm()
    assert entropy == pytest.approx(expected_entropy, rel=1e-5)


WRITTEN = [[4, 9, 5], [6], [7, 7, 5, 8, 9, 5], [8, 30], [31, 4, 4], [5, 9], [9, 9, 9, 9, 9, 9], [6, 7]]
"""Four answers to each of two prompts."""
PROMPTS = [[10, 11, 12]] * 4 + [[13, 14, 15, 16]] * 4


def step_of(trainer: Any, rewards: list[float]) -> Any:
    """A batch of these answers with these rewards, made by the trainer itself; then its policy moves a little."""
    texts = [""] * len(WRITTEN)

    def calculate(*_: Any) -> torch.Tensor:
        trainer._scored = ~torch.tensor(rewards).isnan()
        return torch.tensor(rewards)[:, None].repeat(1, len(trainer.reward_funcs))

    def generate(*_: Any) -> Any:  # what TRL's two trainers have in common, and more that GRPO's has
        return (PROMPTS, WRITTEN, *([None, texts, None, {}, None, None] if hasattr(trainer, "online") else [texts]))

    trainer._generate, trainer._calculate_rewards = generate, calculate
    batch = trainer._generate_and_score_completions([{"prompt": ids, "place": [0]} for ids in PROMPTS])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    return batch


def loss_and_gradients(trainer: Any, batch: Any) -> tuple[float, torch.Tensor]:
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("unscored", [False, True])
def test_rloo_has_the_loss_and_the_gradients_of_trls_trainer(tmp_path: Path, beta: float, unscored: bool) -> None:
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    from lrf_dpo.objective import sum_in_64_bits

    rewards = [3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0, 5.0]
    if unscored:
        rewards[2] = float("nan")
    ours = trainer_of(tmp_path, True, method="rloo", beta=beta, iterations=2, save_every=None)
    loss, gradients = loss_and_gradients(ours, step_of(ours, rewards))
    models = [trainer_of(tmp_path, False, method="rloo").model, trainer_of(tmp_path, False, beta=0.1).ref_model]
    args = RLOOConfig(
        str(tmp_path), num_generations=4, per_device_train_batch_size=8, use_cpu=True, bf16=False, report_to="none",
        gradient_checkpointing=False, beta=0.0,
    )  # fmt: skip
    dataset = Dataset.from_list([{"prompt": "x"}])
    theirs = RLOOTrainer(models[0], lambda **_: [], args, dataset, processing_class=ours.processing_class)
    theirs.ref_model, theirs.beta = models[1], beta
    for model in models:
        model.register_forward_hook(sum_in_64_bits)  # a sum of log-probabilities in float32 is 3e-5 off here
    theirs.model.train()
    expected, expected_gradients = loss_and_gradients(theirs, step_of(theirs, rewards))
    scale = 8 / 7 if unscored else 1.0  # TRL counts unscored answers in the mean, as zeros
    assert expected
    assert loss == pytest.approx(scale * expected, rel=1e-5)
    assert (gradients - scale * expected_gradients).norm() <= 1e-5 * expected_gradients.norm()
    assert (beta > 0) == bool(ours._metrics["train"]["kl"])


def test_online_dpo_is_dpo_over_the_pairs_of_a_group_whose_rewards_differ(tmp_path: Path) -> None:
    from torch.nn.functional import logsigmoid

    nan = float("nan")
    trainer = trainer_of(tmp_path, True, method="online_dpo", beta=0.1)
    batch = step_of(trainer, [3.0, 1.0, nan, 1.0, 5.0, 5.0, 5.0, 5.0])
    loss, gradients = loss_and_gradients(trainer, batch)

    def log_prob(model: Any, n: int) -> torch.Tensor:
        ids = torch.tensor([PROMPTS[n] + WRITTEN[n]])
        scores = plain(model, ids)[0, len(PROMPTS[n]) - 1 : -1].double().log_softmax(-1)
        return scores.gather(1, torch.tensor(WRITTEN[n])[:, None]).sum()

    def plain(model: Any, ids: torch.Tensor) -> torch.Tensor:
        with trainer.shared.off(model):
            return model.lm_head(model.model(ids).last_hidden_state)

    trainer.model.zero_grad()
    implicit = [0.1 * (log_prob(trainer.model, n) - log_prob(trainer.ref_model, n).detach()) for n in range(4)]
    expected = -(logsigmoid(implicit[0] - implicit[1]) + logsigmoid(implicit[0] - implicit[3])) / 2 / 2
    expected.backward()
    plainly = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert (gradients - plainly).norm() <= 1e-5 * plainly.norm()


@pytest.mark.parametrize("method", ["rloo", "online_dpo"])
def test_other_methods_train_and_log_what_moved(train: Callable[..., Path], method: str) -> None:
    output = train(Judge(), method=method, beta=0.1, iterations=2, max_steps=2, save_every=2)
    first, second = lines(output, "training_log")
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    assert second["kl"] != 0
    assert first["entropy"] > 1
