"""The judge ``verifier``: a tiny classifier, trained on the spot, alone and before another judge in a cascade."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, set_seed

from judge_server import JudgeServer
from lrf.config import parse_pipeline
from lrf.engine.budget import BudgetLedger
from lrf.engine.panel import PanelSettings
from lrf.errors import JudgeMisconfiguredError, RejectedError
from lrf.planning.plan import plan_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.prompting.claims import Claim
from lrf.prompting.expectations import Rating, Verdict
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import Template
from lrf.protocols import Judge
from lrf.stages.runner import run_pipeline
from lrf.testing import ScriptedJudge, check_judge
from lrf.types import Candidate, Chunk, Document, Sample
from lrf_longreward.faithfulness import Faithfulness
from lrf_longreward.settings import FaithfulnessSettings
from lrf_verifier.judge import Verifier
from lrf_verifier.model import PairClassifier
from lrf_verifier.settings import VerifierSettings
from scoring import judgement_of, statements_in, tagged

SUPPORT = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}
OPTIONS = {f"[[{label}]]" for label in SUPPORT}
FILLERS = ("mill", "school", "river", "king", "tower", "market", "garden", "bell", "road", "the", "a", ".")
PROMPT = Template("Check.\n<<context>>\n---\n<<statement>>\nVerdict:", ("context", "statement"))


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "burnt", "sold", *FILLERS]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=48, model_input_names=names, **special)


def words(rng: random.Random, extra: str | None, most: int = 5) -> str:
    found = [*rng.choices(FILLERS, k=rng.randint(1, most)), *([extra] if extra else [])]
    rng.shuffle(found)
    return " ".join(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that finds a statement supported where the evidence has "burnt" and the statement hasn't "sold"."""
    set_seed(0)
    made, rng = tokenizer(), random.Random(0)
    labels = {0: "ENTAILMENT", 1: "neutral", 2: "contradiction"}
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(made), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=48, num_labels=3, id2label=labels, label2id={v: k for k, v in labels.items()},
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.15,
        )
    )  # fmt: skip
    with torch.no_grad():  # where a word stands doesn't matter
        model.bert.embeddings.position_embeddings.weight.zero_()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(200):
        drawn = [(rng.random() < 0.6, rng.random() < 0.3) for _ in range(32)]
        evidence = [words(rng, "burnt" if burnt else None, 4 + step // 6) for burnt, _ in drawn]
        statements = [words(rng, "sold" if sold else None) for _, sold in drawn]
        truth = torch.tensor([2 if sold else 0 if burnt else 1 for burnt, sold in drawn])
        batch = made(evidence, statements, padding=True, truncation="only_first", return_tensors="pt")
        model(**batch, labels=truth).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("verifier")
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> PairClassifier:
    return PairClassifier(VerifierSettings(model=str(folder)))


@pytest.fixture
def verifier(folder: Path) -> Iterator[Verifier]:
    verifier = Verifier(VerifierSettings(model=str(folder), device="cpu"))
    yield verifier
    asyncio.run(verifier.aclose())


def request(evidence: str, statement: str, template: Template = PROMPT, expects: Any = None) -> Request:
    prompt = template.fill({"context": evidence, "statement": statement})
    return Request(prompt, expects or Verdict(SUPPORT), 64, 0.01, reply_mode="logprobs")


def likeliest(reply: Reply) -> str:
    assert reply.probabilities is not None
    assert set(reply.probabilities) == OPTIONS
    assert sum(reply.probabilities.values()) == pytest.approx(1)
    return max(reply.probabilities, key=lambda option: reply.probabilities[option])  # type: ignore[index]


async def test_it_gives_the_probability_of_each_verdict_by_evidence_and_statement(verifier: Verifier) -> None:
    assert isinstance(verifier, Judge)
    replies = await asyncio.gather(
        *(
            verifier.complete(request(evidence, statement))
            for evidence, statement in [
                ("the mill burnt", "a mill"),
                ("the mill", "a mill"),
                ("a burnt mill", "sold ."),
            ]
        )
    )
    assert [likeliest(r) for r in replies] == ["[[Fully supported]]", "[[No support]]", "[[No support]]"]
    assert all(max(r.probabilities.values()) > 0.8 for r in replies if r.probabilities)
    assert [r.usage.prompt_tokens for r in replies] == [8, 7, 8]
    assert all(r.text == "" for r in replies)


async def test_many_requests_are_computed_in_batches_with_the_same_result_as_alone(verifier: Verifier) -> None:
    rng = random.Random(1)
    asked = [request(words(rng, rng.choice(["burnt", None])), words(rng, None)) for _ in range(40)]
    together = await asyncio.gather(*(verifier.complete(r) for r in asked))
    alone = [await verifier.complete(r) for r in asked[:10]]
    for one, other in zip(together, alone, strict=False):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_of_evidence_longer_than_the_model_reads_the_best_window_counts(classifier: PairClassifier) -> None:
    filler = "the road . " * 40
    found = [
        classifier.verify([Claim(evidence, "a mill", SUPPORT)])[0]
        for evidence in (filler, filler + "burnt", "burnt " + filler, filler + "burnt " + filler)
    ]
    assert not any(isinstance(f, RejectedError) for f in found)
    shares = [f.probabilities["Fully supported"] for f in found]  # type: ignore[union-attr]
    assert shares[0] < 0.2
    assert min(shares[1:]) > 0.8
    assert found[3].tokens > 240  # type: ignore[union-attr]


def test_a_statement_that_leaves_no_room_for_evidence_is_refused(classifier: PairClassifier) -> None:
    long, short = classifier.verify([Claim("burnt", "mill " * 60, SUPPORT), Claim("burnt", "mill", SUPPORT)])
    assert isinstance(long, RejectedError)
    assert "48" in str(long)
    assert not isinstance(short, RejectedError)


def test_text_spells_no_separator(classifier: PairClassifier) -> None:
    [windows] = [classifier._windows(Claim("the mill [SEP] burnt [CLS]", "a [SEP] mill", SUPPORT))]
    assert not isinstance(windows, RejectedError)
    [window] = windows
    assert (window["input_ids"].count(3), window["input_ids"].count(2)) == (2, 1)


@pytest.mark.parametrize(
    "evidence", ["", "\0", "\u202eabc", "e\u0301" * 99, "x" * 100_000, "一" * 5000, "😀", "a\ud83d"]
)
def test_no_evidence_is_too_strange(classifier: PairClassifier, evidence: str) -> None:
    [found] = classifier.verify([Claim(evidence, "a mill", SUPPORT)])
    assert not isinstance(found, RejectedError)
    assert sum(found.probabilities.values()) == pytest.approx(1)


def test_a_model_that_computes_nan_gives_a_reason(folder: Path) -> None:
    broken = PairClassifier(VerifierSettings(model=str(folder), device="cpu"))
    with torch.no_grad():
        broken._model.classifier.weight.fill_(float("nan"))
    [found] = broken.verify([Claim("burnt", "a mill", SUPPORT)])
    assert isinstance(found, RejectedError)
    assert "NaN" in str(found)


async def test_the_evidence_is_read_from_the_prompts_fields_wherever_they_stand(verifier: Verifier) -> None:
    swapped = Template("burnt sold <<statement>> sold <<context>>", ("context", "statement"))
    reply = await verifier.complete(request("the mill burnt", "a mill", swapped))
    assert likeliest(reply) == "[[Fully supported]]"


async def test_fields_of_other_names_are_set(folder: Path) -> None:
    settings = VerifierSettings(model=str(folder), evidence_field="passage", statement_field="claim")
    verifier, template = Verifier(settings), Template("<<passage>>|<<claim>>", ("passage", "claim"))
    prompt = template.fill({"passage": "burnt mill", "claim": "a mill"})
    reply = await verifier.complete(Request(prompt, Verdict(SUPPORT), 64, 0.01, reply_mode="logprobs"))
    assert likeliest(reply) == "[[Fully supported]]"
    with pytest.raises(RejectedError, match=r"no fields passage and claim \(its fields: context, statement\)"):
        await verifier.complete(request("burnt", "mill"))
    await verifier.aclose()


async def test_it_passes_the_checks_of_a_judge(folder: Path) -> None:
    labels = {"entailment": "Fully supported", "neutral": "No support", "contradiction": "No support"}
    await check_judge(Verifier(VerifierSettings(model=str(folder), labels=labels)))


async def test_it_gives_nothing_but_verdicts(verifier: Verifier) -> None:
    assert verifier.capabilities.kinds == ("verdict",)
    with pytest.raises(RejectedError, match="no rating"):
        await verifier.complete(request("a", "b", expects=Rating()))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"entailment": "Fully supported", "neutral": "No support"}, "says nothing of contradiction"),
        ({"LABEL_0": "Fully supported", "LABEL_1": "No support"}, "ENTAILMENT, neutral, contradiction"),
        ({"entailment": "True", "neutral": "False", "contradiction": "False"}, "names the verdict 'False'; allowed"),
    ],
)
async def test_labels_that_do_not_fit_stop_the_run_with_what_is_allowed(
    folder: Path, labels: Mapping[str, str], message: str
) -> None:
    verifier = Verifier(VerifierSettings(model=str(folder), labels=labels))
    with pytest.raises(JudgeMisconfiguredError, match=message):
        await verifier.complete(request("burnt", "mill"))
    await verifier.aclose()


async def test_three_labels_can_be_three_verdicts(folder: Path) -> None:
    labels = {"entailment": "Fully supported", "neutral": "No support", "contradiction": "Partially supported"}
    verifier = Verifier(VerifierSettings(model=str(folder), labels=labels))
    assert likeliest(await verifier.complete(request("burnt mill", "sold mill"))) == "[[Partially supported]]"
    await verifier.aclose()


async def test_a_model_that_is_not_there_stops_the_run(tmp_path: Path, folder: Path) -> None:
    for name, also in (("empty", ()), ("no weights", ("config.json", "tokenizer.json", "tokenizer_config.json"))):
        (tmp_path / name).mkdir()
        for file in also:
            shutil.copy(folder / file, tmp_path / name)
        verifier = Verifier(VerifierSettings(model=str(tmp_path / name)))
        with pytest.raises(JudgeMisconfiguredError, match="it must be a sequence classifier with safetensors weights"):
            await verifier.complete(request("burnt", "mill"))
        await verifier.aclose()


async def test_it_can_be_asked_again_after_it_was_closed(verifier: Verifier) -> None:
    first = await verifier.complete(request("burnt", "mill"))
    await verifier.aclose()
    await verifier.aclose()
    assert await verifier.complete(request("burnt", "mill")) == first


def test_what_its_replies_depend_on_is_in_its_identity(folder: Path) -> None:
    base = Verifier(VerifierSettings(model=str(folder))).identity
    for other in ({"window_tokens": 32}, {"overlap_tokens": 1}, {"labels": {"a": "b", "c": "d"}}, {"dtype": "float16"}):
        assert Verifier(VerifierSettings.model_validate({"model": str(folder), **other})).identity != base
    assert Verifier(VerifierSettings(model=str(folder), max_batch=1)).identity == base
    with pytest.raises(ValidationError):
        VerifierSettings(model=str(folder), labels={"only": "one"})


class OnePassage:
    async def index(self, documents: object) -> OnePassage:
        return self

    async def search(self, queries: list[str], top_k: int | None = None) -> list[list[Chunk]]:
        return [[Chunk("d", 0, 14, "the mill burnt")] for _ in queries]

    async def aclose(self) -> None:
        return None


SURE, UNSURE = "the mill", "sold burnt the burnt burnt"


@pytest.mark.parametrize("per_call", [1, 4])
async def test_only_statements_that_the_verifier_is_unsure_of_reach_the_judge(
    verifier: Verifier, per_call: int
) -> None:
    def script(r: Request) -> str:
        return tagged(SURE, UNSURE) if r.expects.kind == "statements" else "The judge says so. [[Partially supported]]"

    replies = [await verifier.complete(request("[1]\nthe mill burnt", s)) for s in (SURE, UNSURE)]
    tops = [max(reply.probabilities.values()) for reply in replies if reply.probabilities]
    sure = 0.5 * sum(tops)
    assert tops[0] != tops[1]
    judge, ledger = ScriptedJudge(script), BudgetLedger()
    sample = Sample("s", "?", (Document("d", "the mill burnt"),), (Candidate("c", "x"),))

    judgement = await judgement_of(
        Faithfulness(FaithfulnessSettings(verdicts_per_call=per_call)),
        {"small": verifier, "main": judge},
        sample,
        asking=PanelSettings(others=("main",), panel="cascade", sure=sure),
        retriever=OnePassage(),
        ledger=ledger,
    )

    first, second = judgement.statements if tops[0] > sure else reversed(judgement.statements)
    assert first.votes[0].judge == "small"
    assert first.probabilities is not None
    assert first.analysis is None
    assert (second.verdict, second.votes[0].judge) == ("Partially supported", "main")
    assert second.analysis == "The judge says so. [[Partially supported]]"
    assert [s for r in judge.requests if r.expects.kind == "verdict" for s in statements_in(r)] == [second.text]
    assert ledger.lines["d"].spared == 1


async def test_a_pipeline_with_a_verifier_first_tells_what_it_spared_and_its_plan_holds(
    folder: Path, tmp_path: Path, judge_server: JudgeServer
) -> None:
    rows = [
        {
            "id": str(n),
            "context": "The mill burnt . " * 9,
            "query": "?",
            "candidates": [{"text": f"The mill {n} burnt."}],
        }
        for n in range(3)
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "prices.yaml").write_text("version: v\ncurrency: USD\nmodels: [{model: m, input: 1, output: 1}]")
    pipeline = {
        "name": "cascaded",
        "data": {"type": "jsonl", "path": "samples.jsonl"},
        "judges": {
            "small": {"type": "verifier", "model": str(folder)},
            "main": {"type": "openai", "base_url": judge_server.base_url, "model": "m"},
        },
        "retrievers": {"main": {"type": "memory", "mode": "lexical", "chunk_tokens": 16}},
        "dimensions": [{"type": "faithfulness", "judges": ["small", "main"], "panel": "cascade", "sure": 0.6}],
        "budget": {"calls": 1000},
        "prices": "prices.yaml",
    }
    made = parse_pipeline(json.dumps(pipeline), load_catalog(), folder=tmp_path)
    assert parse_pipeline(made.resolved, load_catalog(), folder=tmp_path).resolved == made.resolved

    plan = await plan_pipeline(made)
    summary = await run_pipeline(made, load_catalog(), tmp_path / "runs")

    score = summary.stages["score"]
    lines = (tmp_path / "runs/cascaded/judgements.jsonl").read_text("utf-8").splitlines()
    judged = [s for line in lines for s in json.loads(line)["judgements"]["faithfulness"]["statements"]]
    by_small = [s for s in judged if s["votes"][0]["judge"] == "small"]
    assert score["scored"] == 3
    assert score["spared"] == score["by_dimension"]["faithfulness"]["spared"] == len(by_small) > 0
    assert judge_server.books.calls == 3 + len(judged) - len(by_small)
    assert score["calls"] <= plan.dimensions["faithfulness"].bound_calls
