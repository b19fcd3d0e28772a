"""Preference pairs in the forms of other trainers: a row of ``pairs.jsonl`` in, rows of the form out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Row = Mapping[str, Any]


class LeftOutError(Exception):
    """A row that the format has no place for; the message says why."""


def trl(pair: Row, run: str) -> list[Row]:
    """TRL's conversational preference format, which OpenRLHF reads, too."""
    tools = {"tools": pair["tools"]} if "tools" in pair else {}
    return [{"prompt": pair["prompt"], "chosen": pair["chosen"], "rejected": pair["rejected"], **tools}]


def ms_swift(pair: Row, run: str) -> list[Row]:
    """ms-swift: the turns with the chosen answer, and the text of the rejected one."""
    row = {"messages": [*pair["prompt"], *pair["chosen"]], "rejected_response": _text(pair, "rejected")}
    rewards = pair["chosen_reward"], pair["rejected_reward"]
    if None not in rewards:
        row["margin"] = rewards[0] - rewards[1]
    return [row]


_SHAREGPT = {"user": "human", "assistant": "gpt"}


def llama_factory(pair: Row, run: str) -> list[Row]:
    """LLaMA-Factory's ShareGPT ranking."""
    turns = list(pair["prompt"])
    system = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else ""
    for turn in turns:
        if turn["role"] not in _SHAREGPT or "tool_calls" in turn:
            raise LeftOutError(f"a turn of {turn['role']!r} with tools has no place in ShareGPT's ranking")
    return [
        {
            "system": system,
            "conversations": [{"from": _SHAREGPT[t["role"]], "value": t["content"]} for t in turns],
            "chosen": {"from": "gpt", "value": _text(pair, "chosen")},
            "rejected": {"from": "gpt", "value": _text(pair, "rejected")},
        }
    ]


def llama_factory_info(file: str) -> Mapping[str, Any]:
    """The ``dataset_info.json`` that belongs to the file."""
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "system": "system"}
    return {"lrf": {"file_name": file, "formatting": "sharegpt", "ranking": True, "columns": columns}}


def axolotl(pair: Row, run: str) -> list[Row]:
    """Axolotl's ``chat_template.default``."""
    return [{"messages": pair["prompt"], "chosen": pair["chosen"][0], "rejected": pair["rejected"][0]}]


def nemo_rl(pair: Row, run: str) -> list[Row]:
    """NeMo RL: completions with their ranks, 0 for the better one."""
    completions = [{"rank": 0, "completion": pair["chosen"]}, {"rank": 1, "completion": pair["rejected"]}]
    return [{"context": pair["prompt"], "completions": completions, "task_name": run}]


def kto(pair: Row, run: str) -> list[Row]:
    """KTO: two rows a pair, the chosen answer with label true and the rejected one with label false."""
    answers = (("chosen", True), ("rejected", False))
    return [{"prompt": pair["prompt"], "completion": pair[name], "label": label} for name, label in answers]


def _text(pair: Row, name: str) -> str:
    text: str = pair[name][0]["content"]
    return text


PAIR_FORMATS: Mapping[str, Callable[[Row, str], list[Row]]] = {
    "trl": trl,
    "openrlhf": trl,
    "ms_swift": ms_swift,
    "llama_factory": llama_factory,
    "axolotl": axolotl,
    "nemo_rl": nemo_rl,
    "kto": kto,
}
