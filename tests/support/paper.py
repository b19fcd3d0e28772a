"""LongReward's scoring, plain: written from the description of the method alone, to compare lrf's paper mode with.

One document, one judge, nothing at once, no errors. It shares no code with lrf.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Reply = Callable[[str], str]
Embed = Callable[[Sequence[str]], "np.ndarray[tuple[int, int], np.dtype[np.float32]]"]

SUPPORT = {"fully supported": 1.0, "partially supported": 0.5, "no support": 0.0}
EMPTY = "No relevant information"


class Scorer:
    """Scores answers. ``encode`` and ``decode`` are the tokenizer's; ``prompts`` have the fields of the published."""

    def __init__(
        self,
        prompts: Mapping[str, str],
        reply: Reply,
        embed: Embed,
        encode: Callable[[str], Sequence[int]],
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        self.prompts, self.reply, self.embed = prompts, reply, embed
        self.encode, self.decode = encode, decode

    def ask(self, prompt: str, **fields: str) -> str:
        text = self.prompts[prompt]
        for name, value in fields.items():
            text = text.replace(f"<<{name}>>", value)
        return self.reply(text)

    def cut(self, text: str, size: int) -> list[tuple[str, int, int, int]]:
        """(a piece of ``size`` tokens, its first token, the token after it, all tokens)."""
        tokens = self.encode(text)
        ends = [(i, min(i + size, len(tokens))) for i in range(0, len(tokens), size)]
        return [(self.decode(tokens[i:end]), i, end, len(tokens)) for i, end in ends]

    def rating(self, prompt: str, **fields: str) -> float:
        return float(re.findall(r"\[\[(\d+(?:\.\d+)?)\]\]", self.ask(prompt, **fields))[-1])

    def faithfulness(self, context: str, question: str, answer: str) -> float:
        written = self.ask("statements", question=question, answer=answer)
        statements = [s.strip() for s in re.findall(r"<statement>(.*?)</statement>", written, re.DOTALL) if s.strip()]
        chunks = [piece for piece, *_ in self.cut(context, 128)]
        known, asked = self.embed(chunks), self.embed(statements)
        total = 0.0
        for statement, vector in zip(statements, asked, strict=True):
            cosines = known @ vector / (np.linalg.norm(known, axis=1) * np.linalg.norm(vector))
            best = sorted(range(len(chunks)), key=lambda i: (-round(float(cosines[i]), 6), i))[:5]
            evidence = "\n\n".join(f"[文段{n}]\n{chunks[i]}" for n, i in enumerate(sorted(best), start=1))
            verdict = re.findall(r"\[\[([A-Za-z ]+)\]\]", self.ask("verdict", statement=statement, context=evidence))
            total += SUPPORT[verdict[-1].lower()]
        return 10 * total / len(statements)

    def completeness(self, context: str, question: str, answer: str) -> float:
        notes = []
        for piece, start, end, total in self.cut(context, 4096):
            note = self.ask("notes", context=piece, question=question)
            shares = f"{round(start / total * 100)}% - {round(end / total * 100)}%"
            notes.append(f"[文档{shares}部分的有关信息]\n{EMPTY if EMPTY in note else note}")
        return self.rating("completeness", context="\n\n".join(notes), question=question, answer=answer)

    def scores(self, context: str, question: str, answer: str) -> dict[str, float]:
        """The four ratings, 0 to 10, and their mean as ``reward``."""
        ratings = {
            "helpfulness": self.rating("helpfulness", question=question, answer=answer),
            "logicality": self.rating("logicality", question=question, answer=answer),
            "faithfulness": self.faithfulness(context, question, answer),
            "completeness": self.completeness(context, question, answer),
        }
        return ratings | {"reward": math.fsum(ratings.values()) / 4}
