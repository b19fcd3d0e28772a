"""Rows of well-known data sets and trainers, made into rows of data. A form is recognised by its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]
Data = dict[str, Any]


def pairs(row: Row) -> Data:
    """Preference pairs: TRL (plain and conversational), OpenRLHF, RewardBench, HH-like."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        shared = 0 if isinstance(prompt, str | list) else _shared(chosen, rejected)
        prompt = chosen[:shared] if prompt is None else prompt
        chosen, rejected = chosen[shared:][-1], rejected[shared:][-1]
    candidates = [_candidate("chosen", chosen, row.get("chosen_model")),
                  _candidate("rejected", rejected, row.get("rejected_model"))]  # fmt: skip
    return _asked(prompt, candidates)


def ms_swift(row: Row) -> Data:
    """ms-swift: ``messages`` with the answer at their end, and ``rejected_response``."""
    *prompt, chosen = row["messages"]
    return _asked(prompt, [_candidate("chosen", chosen), _candidate("rejected", row["rejected_response"])])


def sharegpt(row: Row) -> Data:
    """LLaMA-Factory's ShareGPT ranking."""
    roles = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}
    turns = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return _asked([*system, *turns], [_candidate("chosen", row["chosen"]["value"]),
                                      _candidate("rejected", row["rejected"]["value"])])  # fmt: skip


def kto(row: Row) -> Data:
    """KTO: one answer with a label."""
    completion = row["completion"]
    answer = completion[-1] if isinstance(completion, list) else completion
    return _asked(row["prompt"], [{**_candidate("a", answer), "metadata": {"label": row["label"]}}])


def ultrafeedback(row: Row) -> Data:
    """UltraFeedback: an instruction with several models' completions and their scores."""
    candidates = []
    for number, completion in enumerate(row["completions"]):
        about = {k: v for k, v in completion.items() if k in ("overall_score", "fine-grained_score", "annotations")}
        one = _candidate(str(number), completion["response"], completion.get("model"))
        candidates.append({**one, "metadata": about})
    return _asked(row["instruction"], candidates)


def distilabel(row: Row) -> Data:
    """distilabel: an instruction with generations."""
    models = row.get("generation_models") or [row.get("model_name")] * len(row["generations"])
    there = [(text, model) for text, model in zip(row["generations"], models, strict=False) if text is not None]
    return _asked(row["instruction"], [_candidate(str(i), text, model) for i, (text, model) in enumerate(there)])


def helpsteer(row: Row) -> Data:
    """HelpSteer: one response with people's ratings."""
    ratings = {name: row[name] for name in _HELPSTEER if name in row}
    return _asked(row["prompt"], [{**_candidate("a", row["response"]), "metadata": ratings}])


def longbench(row: Row) -> Data:
    """LongBench: a context, an input, and answers of which the first is the reference."""
    answers = row.get("answers") or []
    data = {"context": row["context"], "query": row["input"], "candidates": []}
    return {**data, "reference": answers[0]} if answers else data


_HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


class Form(NamedTuple):
    """A form: the fields that all its rows have, and what makes a row of data of one."""

    fields: frozenset[str]
    made: Callable[[Row], Data]


FORMS: Mapping[str, Form] = {
    "ultrafeedback": Form(frozenset({"instruction", "completions"}), ultrafeedback),
    "distilabel": Form(frozenset({"instruction", "generations"}), distilabel),
    "longbench": Form(frozenset({"context", "input", "answers"}), longbench),
    "llama_factory": Form(frozenset({"conversations", "chosen", "rejected"}), sharegpt),
    "ms_swift": Form(frozenset({"messages", "rejected_response"}), ms_swift),
    "kto": Form(frozenset({"prompt", "completion", "label"}), kto),
    "helpsteer": Form(frozenset({"prompt", "response", "helpfulness"}), helpsteer),
    "pairs": Form(frozenset({"chosen", "rejected"}), pairs),
}
"""The forms, those with more telling fields first."""


def recognise(row: Row) -> str | None:
    """The name of the row's form, or None."""
    return next((name for name, form in FORMS.items() if form.fields <= row.keys()), None)


def _asked(prompt: Any, candidates: Sequence[Data]) -> Data:
    """A row of data whose context is the prompt itself: turns, each of which is a document."""
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return {"messages": [{"role": t["role"], "content": t["content"]} for t in turns], "candidates": list(candidates)}


def _candidate(name: str, answer: Any, source: Any = None) -> Data:
    text = answer["content"] if isinstance(answer, Mapping) else answer
    return {"id": name, "text": text, **({"source": str(source)} if source else {})}


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many turns two conversations begin with in common."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)) - 1)
