"""The dimension that asks a sequence classifier in place of a judge."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForSequenceClassification,
    PreTrainedTokenizerFast,
    set_seed,
)

import lrf
from lrf.api import load
from lrf.errors import StageError, UnscorableError
from lrf.planning.plan import plan_pipeline
from lrf.prompting.templates import Template
from lrf.protocols import Dimension
from lrf.testing import DirectContext, check_dimension
from lrf.types import Candidate, Document, Message, Sample
from lrf_classifier.dimension import Classifier
from lrf_classifier.outputs import KEY
from lrf_classifier.settings import ClassifierSettings
from lrf_classifier.shared import SharedModel
from project import Project

LABELS = ("helpfulness", "faithfulness")
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 4096,
    "num_labels": 2,
    "id2label": dict(enumerate(LABELS)),
    "pad_token_id": 0,
}
SAMPLE = Sample(
    "tram",
    "How did the council vote?",
    (Document("0", "The council closed the tram line by seven votes to two. " * 4),),
    tuple(Candidate(str(i), text) for i, text in enumerate(("Seven to two.", "It kept the line, I think.", ""))),
)


def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator([], trainers.BpeTrainer(special_tokens=["<|pad|>"], initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<|pad|>", chat_template=CHAT)


def saved(folder: Path, kind: str = "llama", **shape: Any) -> Path:
    """A tiny random classifier with two outputs."""
    set_seed(3)
    words = tokenizer()
    size = SHAPE | {"vocab_size": len(words)} | shape
    model = {
        "llama": lambda: LlamaForSequenceClassification(LlamaConfig(**size)),
        "mistral": lambda: MistralForSequenceClassification(MistralConfig(**size, num_key_value_heads=2)),
        "bert": lambda: BertForSequenceClassification(BertConfig(**size)),
    }[kind]()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"))


def dimension(folder: Path, **settings: Any) -> Classifier:
    defaults = {"model": folder, "head": "faithfulness", "zero_at": -1, "ten_at": 1}
    return Classifier(ClassifierSettings.model_validate(defaults | settings))


async def outputs(rated: Classifier, sample: Sample = SAMPLE) -> list[float]:
    context = DirectContext(sample)
    return [(await rated.score(sample, c, context)).extra["output"] for c in sample.candidates]


def by_hand(folder: Path, sample: Sample, answer: str, kind: Any = LlamaForSequenceClassification) -> list[float]:
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    prompt = f"{sample.context}\n\n{sample.query}"
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    ids = words.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]
    with torch.no_grad():
        return kind.from_pretrained(folder)(torch.tensor([ids])).logits[0].tolist()


async def test_it_is_a_dimension_that_keeps_the_rules_of_dimensions(folder) -> None:
    assert isinstance(dimension(folder), Dimension)
    await check_dimension(dimension(folder), SAMPLE)


async def test_the_rating_is_the_output_between_the_two_that_are_0_and_10(folder) -> None:
    [raw, *_] = await outputs(dimension(folder))
    rated = dimension(folder, zero_at=raw - 1, ten_at=raw + 3)
    judgement = await rated.score(SAMPLE, SAMPLE.candidates[0], DirectContext(SAMPLE))
    assert judgement.rating == pytest.approx(2.5)
    assert judgement.reply_mode == "classifier"
    assert judgement.extra == {"head": "faithfulness", "output": raw}


async def test_what_lies_outside_the_scale_is_cut_off_and_a_falling_scale_is_allowed(folder) -> None:
    [raw, *_] = await outputs(dimension(folder))
    for zero_at, ten_at, rating in ((raw + 1, raw + 2, 0.0), (raw - 2, raw - 1, 10.0), (raw + 1, raw - 3, 2.5)):
        judgement = await dimension(folder, zero_at=zero_at, ten_at=ten_at).score(
            SAMPLE, SAMPLE.candidates[0], DirectContext(SAMPLE)
        )
        assert judgement.rating == pytest.approx(rating)


@pytest.mark.parametrize(
    ("kind", "shape", "model"),
    [
        ("llama", {}, LlamaForSequenceClassification),
        ("mistral", {"sliding_window": 8}, MistralForSequenceClassification),
        ("bert", {}, BertForSequenceClassification),
    ],
)
async def test_a_prompt_computed_once_for_all_candidates_changes_no_output(tmp_path, kind, shape, model) -> None:
    folder = saved(tmp_path / kind, kind, **shape)
    expected = [by_hand(folder, SAMPLE, c.text, model)[1] for c in SAMPLE.candidates]
    assert await outputs(dimension(folder)) == pytest.approx(expected, abs=1e-5)


async def test_equal_answers_that_end_with_the_padding_token_get_what_one_alone_gets(tmp_path) -> None:
    folder = saved(tmp_path)
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    words.chat_template = CHAT + "<|pad|>"
    words.save_pretrained(folder)
    sample = Sample("s", "How?", SAMPLE.documents, tuple(Candidate(str(n), "Seven to two.") for n in range(2)))
    expected = by_hand(folder, sample, "Seven to two.")[1]
    assert await outputs(dimension(folder), sample) == pytest.approx([expected] * 2, abs=1e-5)


async def test_dimensions_that_differ_in_their_head_share_the_model_and_its_work(folder, monkeypatch) -> None:
    from lrf_classifier.model import SequenceClassifier

    made: list[Any] = []
    real = SequenceClassifier.outputs

    def counted(self: SequenceClassifier, sample: Sample) -> Any:
        made.append(self)
        return real(self, sample)

    monkeypatch.setattr(SequenceClassifier, "outputs", counted)
    heads = [dimension(folder, head=label) for label in LABELS]
    both = [await outputs(one) for one in heads]
    assert both[0] != both[1]
    assert len(made) == 1


async def test_an_answer_too_long_is_unscored_and_nothing_is_cut(folder) -> None:
    rated = dimension(folder, max_tokens=300)
    long = replace(SAMPLE, candidates=(*SAMPLE.candidates, Candidate("long", "word " * 80)))
    context = DirectContext(long)
    with pytest.raises(UnscorableError, match=r"have \d+ tokens; the reward model takes 300") as e:
        await rated.score(long, long.candidates[-1], context)
    assert e.value.reason == "too_long"
    assert (await rated.score(long, long.candidates[0], context)).rating >= 0


async def test_an_answer_that_spells_a_mark_of_the_model_is_unscored_so_that_it_gains_nothing(folder) -> None:
    forged = replace(SAMPLE, candidates=(Candidate("0", "It did.<|pad|>"), Candidate("1", "It did.")))
    context = DirectContext(forged)
    with pytest.raises(UnscorableError, match=r"spells '<\|pad\|>'") as e:
        await dimension(folder).score(forged, forged.candidates[0], context)
    assert e.value.reason == "special_token"
    assert (await dimension(folder).score(forged, forged.candidates[1], context)).rating >= 0


async def test_a_samples_tools_reach_the_chat_template(tmp_path) -> None:
    folder = saved(tmp_path / "m")
    template = tmp_path / "tools.jinja"
    template.write_text("{{ tools | length if tools else 0 }}" + CHAT)
    plain = replace(SAMPLE, messages=(Message("user", "Who voted?"),))
    armed = replace(plain, tools=({"type": "function", "function": {"name": "search"}},))
    rated = dimension(folder, chat_template=template)
    assert await outputs(rated, plain) != await outputs(rated, armed)


async def test_turns_that_the_template_refuses_leave_the_answer_unscored(tmp_path) -> None:
    folder = saved(tmp_path / "m")
    template = tmp_path / "strict.jinja"
    template.write_text("{{ raise_exception('no such role') }}")
    with pytest.raises(UnscorableError, match="no such role") as e:
        await outputs(dimension(folder, chat_template=template))
    assert e.value.reason == "chat_template"


async def test_the_samples_own_messages_are_the_prompt(folder) -> None:
    chat = replace(SAMPLE, messages=(Message("user", "Quite another question?"),))
    assert await outputs(dimension(folder), chat) != await outputs(dimension(folder))


async def test_a_template_without_the_context_leaves_the_documents_out(folder) -> None:
    other = replace(SAMPLE, documents=(Document("0", "Other words altogether."),))
    short = dimension(folder, prompt_template="<<question>>")
    assert await outputs(short) == await outputs(short, other)
    assert await outputs(dimension(folder)) != await outputs(dimension(folder), other)


async def test_a_model_of_the_trainer_reward_brings_its_own_scale(tmp_path) -> None:
    digest = Template("<<context>>\n\n<<question>>", ("context", "question")).sha256
    known = {"zero_at": -10, "ten_at": 10, "prompt_template_sha256": digest}
    folder = saved(tmp_path / "m", **{KEY: known})
    judgement = await dimension(folder, zero_at=None, ten_at=None).score(
        SAMPLE, SAMPLE.candidates[0], DirectContext(SAMPLE)
    )
    assert judgement.rating == pytest.approx(5 + judgement.extra["output"] / 2)
    with pytest.raises(StageError, match="trained with another prompt_template"):
        await dimension(folder, prompt_template="<<question>>").score(
            SAMPLE, SAMPLE.candidates[0], DirectContext(SAMPLE)
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "logicality"}, "has no output 'logicality'; it has: helpfulness, faithfulness"),
        ({"head": None}, "has several outputs, so `head` must name one; it has: helpfulness, faithfulness"),
        ({"zero_at": None, "ten_at": None}, "set zero_at and ten_at"),
        ({"model": "/nowhere/at/all"}, "/nowhere/at/all can't be loaded"),
    ],
)
async def test_what_is_wrong_with_the_model_stops_the_run_with_what_to_change(folder, settings, message) -> None:
    with pytest.raises(StageError, match=message):
        await dimension(folder, **settings).score(SAMPLE, SAMPLE.candidates[0], DirectContext(SAMPLE))


async def test_a_scale_in_the_models_configuration_that_cannot_be_read_is_named(tmp_path) -> None:
    folder = saved(tmp_path / "m", **{KEY: {"zero_at": "low"}})
    with pytest.raises(StageError, match=f"{KEY} in its config.json can't be used"):
        await outputs(dimension(folder))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give model, a folder, or hub_model"),
        ({"model": "a", "hub_model": "b"}, "one of the two"),
        ({"model": "a", "zero_at": 1}, "give both"),
        ({"model": "a", "zero_at": 1, "ten_at": 1}, "the same output"),
        ({"model": "a", "prompt_template": "<<answer>>"}, "unknown field <<answer>>"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message) -> None:
    with pytest.raises(ValidationError, match=message):
        ClassifierSettings.model_validate(settings)


def pipeline_of(project: Project, folder: Path) -> dict[str, Any]:
    scale = {"type": "classifier", "model": str(folder), "zero_at": -1, "ten_at": 1}
    return project.pipeline(judges=None, dimensions=[scale | {"name": label, "head": label} for label in LABELS])


def test_a_pipeline_without_a_judge_is_scored_and_run_again_to_the_same_files(folder, project) -> None:
    summary = lrf.run(pipeline_of(project, folder), runs=project.runs)
    assert (summary.status, summary.message) == ("finished", "")
    assert all(0 < row["ratings"][label] < 10 for row in project.lines("rewards.jsonl") for label in LABELS)
    first = project.files()
    (project.run_dir / "stages" / "score.json").unlink()
    lrf.run(pipeline_of(project, folder), runs=project.runs)
    assert project.files() == first


def test_a_plan_loads_no_model(folder, project, monkeypatch) -> None:
    monkeypatch.setattr(SharedModel, "rate", lambda *_: pytest.fail("the model was asked"))
    plan = asyncio.run(plan_pipeline(load(pipeline_of(project, folder))))
    assert (plan.candidates, plan.total().calls, plan.bound_holds) == (15, 0, True)
