"""The benchmarks: rows of the published layouts in, figures by the published rules out."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrf
from lrf.errors import DataError
from lrf.evaluation.judgements import read_recorded, wrong_spans
from lrf.prompting.requests import Reply, Request
from lrf.protocols import Benchmark, BenchmarkItem, Capabilities, Judged
from lrf.rows.formats import rows_of
from lrf.rows.lines import Row
from lrf.stages.score.rows import judgement_row
from lrf.types import BadRow, Candidate, JudgedStatement, Judgement, Reward, Sample
from lrf_benchmarks import plugin
from lrf_benchmarks.against_reference import AgainstReference
from lrf_benchmarks.best_of import RewardBench2, RmBench, ties_score
from lrf_benchmarks.claims import AggreFact, FactScore
from lrf_benchmarks.long_texts import LongJudgeBench, LongRewardBench
from lrf_benchmarks.longbench import LongBenchSource
from lrf_benchmarks.own import OwnPairs, OwnRatings
from lrf_benchmarks.pairwise import ContextualJudgeBench, JudgeBench, LlmBar
from lrf_benchmarks.ragtruth import RagTruth
from lrf_benchmarks.settings import (
    AgainstReferenceSettings,
    BenchmarkSettings,
    ClaimSettings,
    FactScoreSettings,
    LongBenchSettings,
    LongJudgeBenchSettings,
    RagTruthSettings,
)

DATA = Path(os.environ.get("LRF_TEST_DATA", "")) / "llmbar"
needs_llmbar = pytest.mark.skipif(not DATA.is_dir(), reason="LRF_TEST_DATA has no llmbar")


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(benchmark: Benchmark) -> list[BenchmarkItem]:
    rows = list(benchmark.read())
    assert not [row for row in rows if isinstance(row, BadRow)]
    return [row for row in rows if isinstance(row, BenchmarkItem)]


def scored(question: BenchmarkItem, *scores: float | None) -> Judged:
    return Judged(question.sample.id, question.label, question.group, scores)


def test_the_plugin_registers_benchmarks_that_satisfy_the_protocol() -> None:
    names = [spec.name for spec in plugin.lrf_register_benchmarks()]
    assert {"llmbar", "rewardbench2", "rmbench", "judgebench", "pairs", "ratings"} <= set(names)
    assert isinstance(LlmBar(BenchmarkSettings(path=Path("x"))), Benchmark)


@needs_llmbar
@pytest.mark.parametrize("judge", ["GPT-4.Rating", "GPT-4.CoT", "ChatGPT.Rating", "ChatGPT.CoT"])
def test_llmbar_of_recorded_outputs_equals_the_authors_statistics_to_the_digit(judge: str) -> None:
    benchmark = LlmBar(BenchmarkSettings(path=DATA / "natural.json"))
    recorded = {one.id: one for one in benchmark.recorded(DATA / f"natural.{judge}.result.json")}
    judged = [Judged(q.sample.id, q.label, "", (), recorded[q.sample.id].decisions) for q in asked(benchmark)]
    published = json.loads((DATA / f"natural.{judge}.statistics.json").read_text())
    numbers = {k: float(v.split("=")[-1].rstrip("%")) if isinstance(v, str) else v for k, v in published.items()}
    assert benchmark.measure(judged) == numbers


@needs_llmbar
def test_llmbar_of_recorded_scores_follows_the_authors_rule_for_ties() -> None:
    benchmark = LlmBar(BenchmarkSettings(path=DATA / "natural.json"))
    rows = json.loads((DATA / "natural.ChatGPT.Rating.result.json").read_text())

    def number(text: str) -> float | None:
        return float(text) if text.isdecimal() else None

    scores = [tuple(number(row["results"][-1][f"score_{n}"][0]) for n in (1, 2)) for row in rows]
    judged = [scored(q, *s) for q, s in zip(asked(benchmark), scores, strict=True)]
    published = json.loads((DATA / "natural.ChatGPT.Rating.statistics.json").read_text())
    assert benchmark.measure(judged)["kappa_agreement"] == published["kappa_agreement"]


def test_judgebench_adds_up_both_orders(tmp_path: Path) -> None:
    row = {"question": "q", "response_A": "a", "response_B": "b", "label": "B>A"}
    data = jsonl(
        tmp_path / "data.jsonl",
        {**row, "pair_id": "1", "source": "mmlu-pro-law"}, {**row, "pair_id": "2", "source": "livebench-math"},
        {**row, "pair_id": "3", "source": "livecodebench"}, {**row, "pair_id": "4", "source": "livecodebench"},
    )  # fmt: skip
    # in the swapped order the row's B is shown as A
    decisions = {"1": ("B>A", "A>B"), "2": ("B>A", "B>A"), "3": ("A=B", "A>B"), "4": (None, "nonsense")}
    file = jsonl(
        tmp_path / "recorded.jsonl",
        *({**row, "pair_id": k, "judgments": [{"decision": d} for d in ds]} for k, ds in decisions.items()),
    )
    benchmark = JudgeBench(BenchmarkSettings(path=data))
    recorded = {one.id: one for one in benchmark.recorded(file)}
    judged = [Judged(q.sample.id, q.label, q.group, (), recorded[q.sample.id].decisions) for q in asked(benchmark)]
    assert [benchmark.right(one) for one in judged] == [1.0, 0.0, 1.0, None]
    assert benchmark.measure(judged) == {
        "knowledge": 100, "reasoning": None, "math": 0, "coding": 50, "overall": 50, "single_game": 50,
    }  # fmt: skip


def test_contextualjudgebench_counts_what_is_right_in_both_orders(tmp_path: Path) -> None:
    rows = [
        {
            "question_id": str(n),
            "question": "q",
            "context": "c",
            "positive_response": "good",
            "negative_response": "bad",
        }
        for n in range(3)
    ]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "refusal_qa-00000-of-00001.parquet")
    benchmark = ContextualJudgeBench(BenchmarkSettings(path=tmp_path / "refusal_qa-00000-of-00001.parquet"))
    decided: list[Any] = [("1", "1"), ("1", "2"), ("2", "2")]
    judged = [Judged(q.sample.id, q.label, q.group, (), d) for q, d in zip(asked(benchmark), decided, strict=True)]
    figures = benchmark.measure(judged)
    assert figures["consistent_accuracy"] == figures["consistent_accuracy_refusal_qa"] == pytest.approx(100 / 3)
    assert figures["consistency"] == pytest.approx(200 / 3)
    votes = jsonl(
        tmp_path / "eval_detailed_refusal_qa.jsonl", {"votes": [1, 1]}, {"votes": [[1], [2]]}, {"votes": [2, -1]}
    )
    recorded = list(benchmark.recorded(votes))
    assert [one.decisions for one in recorded] == [("1", "1"), ("1", "2"), ("2", None)]
    assert [one.id for one in recorded] == [one.id for one in judged]


def test_rewardbench2_shares_a_tie_for_the_top_and_averages_subsets(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": ["right"], "rejected": ["w", "x", "y"], "num_correct": 1}
    data = jsonl(
        tmp_path / "d.jsonl",
        *({**row, "id": name, "subset": subset} for name, subset in (("1", "Math"), ("2", "Math"), ("3", "Focus"))),
    )
    benchmark = RewardBench2(BenchmarkSettings(path=data))
    one, two, three = asked(benchmark)
    judged = [scored(one, 5, 5, 1, 2), scored(two, 9, 1, 1, 1), scored(three, 1, None, 0, 0)]
    assert benchmark.measure(judged) == {"Math": 75.0, "Focus": 0.0, "overall": 37.5}


def test_the_ties_of_rewardbench2_are_weighed_as_published() -> None:
    def one(name: str, right: list[float], wrong: list[float]) -> Judged:
        return Judged(name, len(right), "Ties", (*right, *wrong))

    judged = [
        one("ref:1", [9], [2, 3]),  # gap 6
        one("tied:1", [9, 8], [4, 1]),  # gap 4, spread 1
        one("ref:2", [5], [6]),  # gap -1
        one("tied:2", [7, 5], [4]),  # gap 1, spread 2
    ]
    margin = (math.tanh(4 / 1 - 1) + math.tanh(-1 / 2 - 1)) / 2
    expected = 0.30 * 1 + 0.30 * 0.5 + 0.20 * 0.5 + 0.20 * 0.5 + 0.01 * margin
    assert ties_score(judged) == pytest.approx(expected)
    same = [one("ref:1", [5], [5]), one("tied:1", [5, 5], [5])]  # 0 / 0 counts as nothing
    assert ties_score(same) == 0.0
    assert ties_score(judged[:1]) is None


def test_rmbench_reads_easy_below_normal_on_and_hard_above_the_diagonal(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "prompt": "p", "chosen": ["a"] * 3, "rejected": ["b"] * 3, "domain": domain}
        for n, domain in enumerate(("chat", "safety-refuse", "safety-response"))
    ]
    (tmp_path / "d.json").write_text(json.dumps(rows, indent=1))
    benchmark = RmBench(BenchmarkSettings(path=tmp_path / "d.json"))
    chat, refuse, response = asked(benchmark)
    # longer wins: detailed answers beat concise ones, whichever is right
    by_length = scored(chat, 1, 2, 3, 1, 2, 3)
    figures = benchmark.measure([by_length, scored(refuse, 9, 9, 9, 1, 1, 1), scored(response, 1, 1, 1, 9, 9, 9)])
    assert (figures["chat"], figures["safety"]) == (pytest.approx(100 / 3), 50)
    assert figures["total_avg_acc"] == pytest.approx(125 / 3)
    assert benchmark.measure([by_length])["easy_acc"] == 100
    assert benchmark.measure([by_length])["normal_acc"] == benchmark.measure([by_length])["hard_acc"] == 0
    assert figures["domains_missing"] == ["math", "code"]


def test_longrewardbench_counts_candidates_on_their_right_place(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "A long context."}, {"role": "user", "content": "A question?"}]
    row = {"prompt_template": turns, "source": "s", "ctx_length_for_length": "8k"}
    data = jsonl(
        tmp_path / "LongQA.jsonl",
        {**row, "tasktype": "PairWise", "subtype": "same", "chosen": "good", "rejected": "bad"},
        {**row, "tasktype": "BestOfN", "candidates": ["best", "middle", "worst"]},
    )
    benchmark = LongRewardBench(BenchmarkSettings(path=data))
    pair, ranking = asked(benchmark)
    assert [m.content for m in pair.sample.messages or ()] == ["A long context.", "A question?"]
    assert [benchmark.right(scored(ranking, *s)) for s in ((3, 2, 1), (3, 1, 2), (3, 1, 1))] == [1, 1 / 3, 1 / 3]
    figures = benchmark.measure([scored(pair, 2, 2), scored(ranking, 3, 1, 2)])
    assert (figures["LongQA"], figures["8k"], figures["Rank3"]) == (0, 0, pytest.approx(100 / 3))
    assert figures["4k"] is None
    assert (figures["Same."], figures["Diff."]) == (0, None)


def test_longjudgebench_compares_pairs_preferences_and_labels_as_published(tmp_path: Path) -> None:
    def row(dataset: str, truth: dict[str, Any], *models: str) -> dict[str, Any]:
        responses = [{"model": m, "content": m * 9} for m in models]
        return {"dataset": dataset, "id": f"{dataset} {len(truth)}", "instruction": "Write.", "responses": responses,
                "ground_truth": truth, "meta": {}}  # fmt: skip

    data = jsonl(
        tmp_path / "d.jsonl",
        row("deep", {"type": "pointwise_scores", "scores": {"x": 3, "y": 3, "z": 9}}, "x", "y", "z"),
        row("ma", {"type": "pairwise_preference", "preferred": "tie"}, "x", "y"),
        row("verify", {"type": "pointwise_binary", "gold_correct": False}, "x"),
        row("surge", {"type": "listwise_ranking", "content_ranking": {"GT": 1, "x": 2, "y": 3}}, "GT", "x", "y"),
    )
    benchmark = LongJudgeBench(LongJudgeBenchSettings(path=data))
    deep, ma, verify, surge = asked(benchmark)
    assert len(surge.sample.candidates) == 2
    judged = [scored(deep, 1, 2, 5), scored(ma, 4, 4), scored(verify, 3), scored(surge, 7, None)]
    figures = benchmark.measure(judged)
    assert figures["deep: accuracy"] == pytest.approx(2 / 3)  # people's tie counts as wrong
    assert (figures["ma: accuracy"], figures["verify: accuracy"], figures["surge: accuracy"]) == (1, 1, 0)
    assert figures["deep: spearman"] == pytest.approx(0.866, abs=1e-3)


def test_aggrefact_is_the_mean_of_balanced_accuracies(tmp_path: Path) -> None:
    row = {"doc": "d", "claim": "c"}
    labels = [("one", 1), ("one", 1), ("one", 0), ("two", 1), ("two", 0)]
    data = jsonl(tmp_path / "d.jsonl", *({**row, "dataset": d, "label": label} for d, label in labels))
    benchmark = AggreFact(ClaimSettings(path=data))
    judged = [scored(q, s) for q, s in zip(asked(benchmark), (9, 1, 1, None, 0), strict=True)]
    assert benchmark.measure(judged) == {"one": 75.0, "two": 50.0, "overall": 62.5}
    assert benchmark.measure([judged[0]])["overall"] is None  # one class only


def test_ragtruth_takes_any_span_for_a_hallucinated_response(tmp_path: Path) -> None:
    jsonl(
        tmp_path / "source_info.jsonl",
        {"source_id": "s", "task_type": "QA", "source_info": {"question": "q", "passages": "p"}},
    )
    row = {"source_id": "s", "response": "r", "split": "test"}
    span = {"start": 0, "end": 1, "text": "r", "label_type": "Evident Conflict"}
    jsonl(
        tmp_path / "response.jsonl",
        {**row, "id": "1", "labels": [span]}, {**row, "id": "2", "labels": [span]}, {**row, "id": "3", "labels": []},
        {**row, "id": "4", "labels": [], "split": "train"},
    )  # fmt: skip
    benchmark = RagTruth(RagTruthSettings(path=tmp_path))
    judged = [scored(q, s) for q, s in zip(asked(benchmark), (9.5, 10, 9), strict=True)]
    figures = benchmark.measure(judged)
    assert [figures[f"{name}_QA"] for name in ("precision", "recall", "f1")] == [50, 50, 50]
    assert not [name for name in figures if name.startswith("span")]  # whole answers were rated


def test_ragtruths_spans_are_compared_by_characters_with_recorded_and_with_judged_ones(tmp_path: Path) -> None:
    jsonl(tmp_path / "source_info.jsonl", {"source_id": "s", "task_type": "Summary", "source_info": "Text."})
    row = {"source_id": "s", "response": "Right. Wrong here.", "split": "test"}
    span = {"start": 7, "end": 12, "text": "Wrong"}
    data = [{**row, "id": "1", "labels": [span]}, {**row, "id": "2", "labels": []}]
    jsonl(tmp_path / "response.jsonl", *data)
    predicted = [["Wrong here.", "not in it"], []]
    recorded = jsonl(tmp_path / "p.jsonl", *({**one, "pred": {"hallucination list": p}}
                                             for one, p in zip(data, predicted, strict=True)))  # fmt: skip
    benchmark = RagTruth(RagTruthSettings(path=tmp_path))
    say = read_recorded(benchmark, recorded)["recorded"]
    judged = [say(question) for question in asked(benchmark)]
    figures = benchmark.measure(judged)
    assert [figures[f"{name}_Summary"] for name in ("f1", "span_precision", "span_recall")] == [100, 500 / 11, 100]
    assert [benchmark.right(one) for one in judged] == [1, 1]
    with pytest.raises(DataError, match=r"p\.jsonl:1: pred: expected"):
        list(benchmark.recorded(jsonl(tmp_path / "p.jsonl", row)))
    unread = jsonl(tmp_path / "p.jsonl", {**row, "pred": "no JSON"}, {**row, "pred": {}}, {**row, "pred": None})
    assert [one.scores for one in benchmark.recorded(unread)] == [(None,), (10.0,), (None,)]
    assert RagTruthSettings(path=tmp_path / "response.jsonl").path == tmp_path
    with pytest.raises(ValueError, match=r"has no response\.jsonl"):
        RagTruthSettings(path=tmp_path / "elsewhere")
    jsonl(tmp_path / "response.jsonl", {**row, "id": "1", "labels": [{"start": 3, "end": 99}]})
    assert "within the 18 characters" in next(iter(benchmark.read())).message
    sentences = (JudgedStatement("Right.", "v", 1.0, in_answer=(0, 6)),
                 JudgedStatement("Wrong here.", "v", 0.0, in_answer=(7, 18)))  # fmt: skip
    whole, by_sentence = Judgement(5.0), Judgement(5.0, None, "statements", sentences)
    rewards = [
        Reward(id_, "0", 5.0, {}, judgements={"faithfulness": one}) for id_, one in (("1", by_sentence), ("2", whole))
    ]
    assert wrong_spans(jsonl(tmp_path / "j.jsonl", *map(judgement_row, rewards))) == {"1": ((7, 18),)}


def test_factscore_compares_the_judges_score_with_peoples(tmp_path: Path) -> None:
    def facts(*labels: str) -> dict[str, Any]:
        return {"topic": "T", "output": "o", "annotations": [{"human-atomic-facts": [
            {"text": f"fact {n}", "label": label} for n, label in enumerate(labels)]}]}  # fmt: skip

    data = jsonl(tmp_path / "d.jsonl", facts("S", "NS", "IR"))
    knowledge = jsonl(tmp_path / "k.jsonl", {"title": "T", "text": "article"})
    benchmark = FactScore(FactScoreSettings(path=data, knowledge=knowledge, gamma=0))
    figures = benchmark.measure([scored(q, 9) for q in asked(benchmark)])
    assert (figures["score"], figures["human_score"], figures["facts_an_answer"]) == (100, 50, 2)
    penalised = FactScore(FactScoreSettings(path=data, knowledge=knowledge))
    assert penalised.measure([scored(q, 9) for q in asked(penalised)])["score"] == pytest.approx(100 * math.exp(-4))


def test_a_file_of_facts_without_facts_is_named_row_by_row(tmp_path: Path) -> None:
    said = {None: "annotations: none, as of an answer that did not respond", "[{": "annotations: expected a list of",
            7: "annotations: expected a list of objects; got \"7\""}  # fmt: skip
    data = jsonl(tmp_path / "d.jsonl", *({"topic": "T", "output": "o", "annotations": value} for value in said))
    knowledge = jsonl(tmp_path / "k.jsonl", {"title": "T", "text": "article"})
    read = list(FactScore(FactScoreSettings(path=data, knowledge=knowledge)).read())
    assert all(isinstance(row, BadRow) and row.message.startswith(why) for row, why in zip(read, said.values()))
    assert len(read) == 3


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    row = {"id": 1, "prompt": "p", "chosen": ["r"] * 3, "rejected": ["w"] * 3}
    for name in ("code_filtered.json", "chat_filtered.json", "README.md"):
        (tmp_path / name).write_text(json.dumps([row]))
    assert [one.group for one in asked(RmBench(BenchmarkSettings(path=tmp_path)))] == ["chat", "code"]
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="has no files that end in"):
        BenchmarkSettings(path=tmp_path / "none")


def test_own_labels_come_from_csv_json_lines_and_parquet_alike(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "answer_a": "a", "answer_b": "b", "preferred": "ab"[n % 2]} for n in range(4)]
    with (tmp_path / "d.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    jsonl(tmp_path / "d.jsonl", *rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    read = [asked(OwnPairs(BenchmarkSettings(path=tmp_path / name))) for name in ("d.csv", "d.jsonl", "d.parquet")]
    assert read[0] == read[1] == read[2]
    judged = [scored(q, *s) for q, s in zip(read[0], [(2, 1), (2, 1), (1, 1), (None, 1)], strict=True)]
    figures = OwnPairs(BenchmarkSettings(path=tmp_path)).measure(judged)
    assert figures["accuracy_ties_half"] == figures["accuracy_without_ties"] == 50
    assert figures["accuracy_ties_wrong"] == figures["ties"] == pytest.approx(100 / 3)
    tied = [Judged("q", label, "", decisions=("tie", "1")) for label in ("1", "2", "tie")]
    assert [OwnPairs(BenchmarkSettings(path=tmp_path)).right(one) for one in tied] == [0.75, 0.25, 0.5]


def test_own_ratings_are_compared_over_all_and_within_a_question(tmp_path: Path) -> None:
    data = jsonl(
        tmp_path / "d.jsonl", *({"query": q, "answer": "a", "rating": r} for q, r in (("x", 1), ("x", 2), ("y", 9)))
    )
    benchmark = OwnRatings(BenchmarkSettings(path=data))
    figures = benchmark.measure([scored(q, s) for q, s in zip(asked(benchmark), (3.0, 5.0, 9.0), strict=True)])
    assert figures == {"spearman": 1.0, "kendall": 1.0, "pairwise_accuracy": 100.0, "pairs": 1}
    assert benchmark.measure([scored(asked(benchmark)[0], 3.0)])["spearman"] is None


BAD = [
    (LlmBar, {"input": "i", "output_1": "a", "output_2": "b"}, "label: missing, expected one of 1, 2"),
    (LlmBar, {"input": "i", "output_1": "a", "label": 1}, "output_2: missing; the row's fields are input, output_1"),
    (LlmBar, ["no object"], "expected an object"),
    (LlmBar, {"input": "i\0", "output_1": "a", "output_2": "b", "label": 1}, "input: "),
    (JudgeBench, {"pair_id": "1", "source": "s", "question": "q", "response_A": 1}, "response_A: expected a text; got"),
    (
        RewardBench2,
        {"id": 1, "prompt": "p", "chosen": "right", "rejected": ["w"], "subset": "M"},
        "chosen: expected a list",
    ),
    (
        RewardBench2,
        {"id": 1, "prompt": "p", "chosen": ["r"], "rejected": ["w"], "subset": "Ties"},
        "id: expected ref:N",
    ),
    (
        RmBench,
        {"id": 1, "prompt": "p", "chosen": ["r"] * 4, "rejected": ["w"] * 3, "domain": "chat"},
        "three texts each",
    ),
    (
        RmBench,
        {"id": 1, "prompt": "p", "chosen": ["r"] * 3, "rejected": ["w"] * 3},
        "domain: expected chat, math, code, safety (or a file named so); got 'd'",
    ),
    (OwnRatings, {"query": "q", "answer": "a", "rating": "nan"}, "rating: expected a finite number; got"),
    (OwnRatings, {"query": " ", "answer": "a", "rating": 1}, "query: empty"),
    (OwnRatings, {"query": "q", "answer": "a", "rating": [1]}, "rating: expected a finite number; got"),
    (
        RewardBench2,
        {"id": 1, "prompt": "p", "chosen": ["r"], "rejected": ["w"], "subset": "M", "num_correct": 2},
        "num_correct: 2 of 2 answers leaves none to tell apart",
    ),
]
LONG = {"dataset": "d", "id": 1, "instruction": "i", "responses": [{"model": m, "content": m} for m in "ab"]}
BAD_LONG = [
    (LongRewardBench, {"prompt_template": []}, "prompt_template: expected a list of turns"),
    (
        LongRewardBench,
        {"prompt_template": [{"role": "user", "content": "q"}], "tasktype": "BestOfN", "candidates": ["one"]},
        "candidates: expected a list of at least two answers",
    ),
    (LongJudgeBench, {**LONG, "ground_truth": 7}, "ground_truth, responses: expected an object and a list"),
    (LongJudgeBench, {**LONG, "ground_truth": {"scores": {"c": 1}}}, "says nothing about any of the responses"),
    (LongJudgeBench, {**LONG, "ground_truth": {"preferred": "C"}}, "preferred: expected A, B or tie; got 'C'"),
    (LongJudgeBench, {**LONG, "ground_truth": {"type": "x"}}, "expected preferred, gold_correct, scores or a ranking"),
]


@pytest.mark.parametrize(("kind", "row", "says"), BAD_LONG)
def test_a_row_of_long_texts_that_is_no_question_is_named(tmp_path: Path, kind: Any, row: Any, says: str) -> None:
    settings = (LongJudgeBenchSettings if kind is LongJudgeBench else BenchmarkSettings)(
        path=jsonl(tmp_path / "d", row)
    )
    (read,) = kind(settings).read()
    assert isinstance(read, BadRow)
    assert says in read.message


RECORDED = [
    (LlmBar, {"results": []}, "results: expected a list of judgements"),
    (LlmBar, {"results": [{"swap = False": {"winner": "1"}}]}, "the last has no 'swap = True' with a winner"),
    (LlmBar, 7, "expected an object"),
    (RmBench, {"id": 1, "score_chosen": [1, 2]}, "score_chosen: expected three numbers"),
    (ContextualJudgeBench, {"votes": [1]}, "votes: expected two, one for each order"),
    (RewardBench2, {}, "give rows of sample_id, candidate_id and reward"),
    (LongRewardBench, {}, "give rows of sample_id, candidate_id and reward"),
]


@pytest.mark.parametrize(("kind", "row", "says"), RECORDED)
def test_a_row_that_is_no_recorded_judgement_is_named(tmp_path: Path, kind: Any, row: Any, says: str) -> None:
    with pytest.raises(DataError) as error:
        list(kind(BenchmarkSettings(path=tmp_path / "d")).recorded(jsonl(tmp_path / "r.jsonl", row)))
    assert says in str(error.value)


def test_recorded_scores_and_votes_are_judgements_in_the_benchmarks_own_order(tmp_path: Path) -> None:
    made = RmBench(BenchmarkSettings(path=tmp_path / "d"))
    rows = jsonl(tmp_path / "r.jsonl", {"id": 3, "score_chosen": [3, 2, 1], "score_rejected": [0, "1", None]})
    (recorded,) = made.recorded(rows)
    assert (recorded.id, recorded.scores) == ("3", (3.0, 2.0, 1.0, 0.0, 1.0, None))
    votes = jsonl(tmp_path / "eval_detailed_x.jsonl", {"votes": [[1], 2]}, {"votes": [{}, 3]})
    found = [one.decisions for one in ContextualJudgeBench(BenchmarkSettings(path=tmp_path / "d")).recorded(votes)]
    assert found == [("1", "2"), (None, None)]
    alone = jsonl(tmp_path / "j.jsonl", {"pair_id": "p", "judgments": [{"decision": "A>B"}]})
    (single,) = JudgeBench(BenchmarkSettings(path=tmp_path / "d")).recorded(alone)
    assert single.decisions == ("1", None)


def test_a_group_of_ties_without_its_counterpart_or_scores_counts_as_published() -> None:
    def ties(name: str, *scores: float | None) -> Judged:
        return Judged(name, 1, "Ties", scores)

    assert ties_score([ties("ref:1", 2, 1)]) is None
    assert ties_score([ties("ref:1", 2, 1), ties("tied:2", 2, 1)]) == pytest.approx(0.6)
    assert ties_score([ties("ref:1", None, 1), ties("tied:2", 2, 1)]) == pytest.approx(0.3)
    assert RewardBench2(BenchmarkSettings(path=Path("x"))).right(Judged("tied:1", 1, "Ties", (2, 1))) == 1.0
    assert RewardBench2(BenchmarkSettings(path=Path("x"))).right(Judged("1", 1, "M", (None, 1))) is None


@pytest.mark.parametrize(("kind", "row", "says"), BAD)
def test_a_row_that_is_no_question_is_named_by_line_and_field(tmp_path: Path, kind: Any, row: Any, says: str) -> None:
    (read,) = kind(BenchmarkSettings(path=jsonl(tmp_path / "d.jsonl", row))).read()
    assert isinstance(read, BadRow)
    assert says in read.message
    assert read.line == 1


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.integers(), st.text(max_size=40)))),
    st.integers(1, 40),
)
def test_a_json_list_is_read_the_same_however_it_is_cut_into_pieces(tmp_path_factory, values, chunk) -> None:
    from lrf.rows import formats

    path = tmp_path_factory.mktemp("lists") / "list.json"
    path.write_text(json.dumps(values, indent=chunk % 3 or None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "CHUNK", chunk)
        assert [row.value for row in rows_of(path) if not isinstance(row, BadRow)] == values


@pytest.mark.parametrize("text", ['[{"a": 1}', '[{"a": 1}, {"b', '[{"a": NaN}]', "[1 2"])
def test_a_json_list_that_is_cut_short_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(DataError, match=r"list\.json: "):
        list(rows_of(tmp_path / "list.json"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json.gz", "a.csv.gz"])
def test_a_row_that_would_fill_the_memory_once_it_is_unpacked_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lines", "formats"):
        monkeypatch.setattr(f"lrf.rows.{module}.LONGEST_ROW", 1000)
    monkeypatch.setattr("lrf.rows.formats.CHUNK", 100)
    row = '{"a": "' + "x" * 2000 + '"}'
    text = {"a.json.gz": f"[{row}]", "a.csv.gz": f"a,b\n{row},1\n"}.get(name, row).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    with pytest.raises(DataError, match=r"longer than 1,000 (bytes|characters), the most that is read"):
        list(rows_of(tmp_path / name))


def test_a_row_of_parquet_that_would_fill_the_memory_is_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.rows.formats.LONGEST_ROW", 1000)
    pq.write_table(pa.table({"a": ["short", "x" * 2000]}), tmp_path / "a.parquet")
    fits, large = rows_of(tmp_path / "a.parquet")
    assert isinstance(fits, Row)
    assert fits.value == {"a": "short"}
    assert isinstance(large, BadRow)
    assert large.message.startswith("takes 2,064 bytes unpacked")


FEW_SHOTS = [[{"answer": f"Example {n}.", "score": n} for n in (2, 9, 5)]] * 2


async def test_policies_are_rated_against_their_best_reference_on_the_published_scales(tmp_path: Path) -> None:
    (tmp_path / "few_shots.json").write_text(json.dumps(FEW_SHOTS))
    data = jsonl(
        tmp_path / "test.jsonl",
        {"input": "When?", "context": "In 1904.", "answers": ["1904", "in 1904"], "dataset": "qasper", "_id": "x"},
        {"input": "", "context": "A report.", "answers": ["Short."], "dataset": "gov_report", "all_classes": None},
        {"idx": 2, "prompt": "Long text.\nWho?", "query": "Who?", "answer": "She."},
        {"question": "?"},
    )
    prompts: list[str] = []

    class Judge:
        identity: ClassVar = {"type": "test"}
        capabilities = Capabilities()
        max_concurrency, request_timeout_s = 4, 60.0

        async def complete(self, request: Request) -> Reply:
            prompts.append("".join(segment.text for segment in request.prompt))
            return Reply("So. [[3]]" if "in 1904" in prompts[-1] else "So. [[2]]")

        async def aclose(self) -> None:
            return None

    rows = list(LongBenchSource(LongBenchSettings(path=data)).read())
    assert [row.message[:12] for row in rows if isinstance(row, BadRow)] == ["expected Lon"]
    qa, summary, chat = (row for row in rows if isinstance(row, Sample))
    assert (qa.id, qa.reference, chat.id, chat.documents[0].text) == ("x", "1904", "2", "Long text.")
    assert summary.query == "Summarise the document."
    rated = {}
    for sample, kind, more in (
        (qa, "qa", {}), (summary, "summary", {}), (chat, "chat", {"few_shots": "few_shots.json"}),
    ):  # fmt: skip
        settings = AgainstReferenceSettings.model_validate({"kind": kind, **more}, context={"folder": tmp_path})
        with lrf.RewardModel(Judge(), dimensions=[AgainstReference(settings)]) as model:
            answered = replace(sample, candidates=(Candidate("a", "An answer."),))
            (outcome,) = await model.score_sample(answered)
            rated[kind] = outcome.reward
    assert rated == {"qa": 10.0, "summary": 2.5, "chat": 2.0}
    assert "Rating: [[9]]" in prompts[-1]
    assert "An answer." in prompts[-1]
