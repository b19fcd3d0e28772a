"""Registers the benchmarks, and the dimensions that compare answers, write them anew and rate them by references."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec

_BENCHMARKS = (
    ("llmbar", "pairwise:LlmBar", "Benchmark", "LLMBar: which of two outputs follows the instruction"),
    ("judgebench", "pairwise:JudgeBench", "Benchmark", "JudgeBench: which of two hard answers is correct"),
    ("contextualjudgebench", "pairwise:ContextualJudgeBench", "Benchmark",
     "ContextualJudgeBench: which of two answers to a question on a document is better"),
    ("rewardbench2", "best_of:RewardBench2", "Benchmark", "RewardBench 2: the best of four answers, and ties"),
    ("rmbench", "best_of:RmBench", "Benchmark", "RM-Bench: correct answers against wrong ones in other styles"),
    ("longrewardbench", "long_texts:LongRewardBench", "Benchmark",
     "Long-RewardBench: rankings of answers to contexts of 4k to 128k tokens"),
    ("longjudgebench", "long_texts:LongJudgeBench", "LongJudgeBench", "LongJudgeBench: long answers scored by people"),
    ("aggrefact", "claims:AggreFact", "Claim", "LLM-AggreFact: whether a document supports a claim"),
    ("ragtruth", "ragtruth:RagTruth", "RagTruth", "RAGTruth: whether a response says what its source doesn't"),
    ("factscore", "claims:FactScore", "FactScore", "FActScore's labels: which facts of a biography are supported"),
    ("pairs", "own:OwnPairs", "Benchmark", "your own preferences between two answers"),
    ("ratings", "own:OwnRatings", "Benchmark", "your own ratings of answers"),
)  # fmt: skip


@hookimpl
def lrf_register_benchmarks() -> Iterable[ComponentSpec]:
    return tuple(
        ComponentSpec(
            name=name,
            target=f"lrf_benchmarks.{target}",
            settings=f"lrf_benchmarks.settings:{settings}Settings",
            summary=summary,
            extra="bench",
        )
        for name, target, settings, summary in _BENCHMARKS
    )


@hookimpl
def lrf_register_sources() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="longbench",
            target="lrf_benchmarks.longbench:LongBenchSource",
            settings="lrf_benchmarks.settings:LongBenchSettings",
            summary="questions of LongBench and LongBench-Chat, with their reference answers",
        ),
    )


@hookimpl
def lrf_register_dimensions() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="comparison",
            target="lrf_benchmarks.comparison:Comparison",
            settings="lrf_benchmarks.settings:ComparisonSettings",
            summary="which of two answers is better, asked in one question (for `lrf bench --compare`)",
            needs=("judge",),
        ),
        ComponentSpec(
            name="rewriting",
            target="lrf_benchmarks.rewriting:Rewriting",
            settings="lrf_benchmarks.settings:RewritingSettings",
            summary="an answer in the judge's own words, not a rating (for `lrf audit --reword`)",
            needs=("judge",),
        ),
        ComponentSpec(
            name="against_reference",
            target="lrf_benchmarks.against_reference:AgainstReference",
            settings="lrf_benchmarks.settings:AgainstReferenceSettings",
            summary="an answer beside reference answers, as LongReward and LongBench-Chat evaluate policies",
            needs=("judge",),
        ),
    )
