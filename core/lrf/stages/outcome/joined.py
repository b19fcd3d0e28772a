"""A sample of a scored run: its texts with the rewards and judgements of its candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from lrf.stages.outcome.closest import Sentences
from lrf.types import JSON, Candidate, JudgedStatement, Reward, Sample, Span

__all__ = ["ScoredCandidate", "ScoredSample"]


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate with its reward and judgements.

    Parameters
    ----------
    rank: 1 for the highest reward of the sample; candidates of equal reward share a rank. None: unscored.
    """

    candidate: Candidate
    reward: Reward
    rank: int | None

    @property
    def id(self) -> str:
        return self.candidate.id

    @property
    def text(self) -> str:
        return self.candidate.text


@dataclass(frozen=True, slots=True)
class ScoredSample:
    """A sample with its candidates, ranked: the best first, equal ones in the data's order, unscored ones last.

    Where the run's data can't be read, ``sample`` has ids only: no documents, and candidates without text.
    """

    sample: Sample
    candidates: tuple[ScoredCandidate, ...]
    _sentences: Sentences = field(repr=False, compare=False)

    @classmethod
    def of(cls, sample: Sample, rewards: Sequence[Reward]) -> ScoredSample:
        """``rewards`` has one for each candidate of the sample, in order."""
        values = [r.reward for r in rewards if r.reward is not None]
        candidates = [
            ScoredCandidate(c, r, None if r.reward is None else 1 + sum(v > r.reward for v in values))
            for c, r in zip(sample.candidates, rewards, strict=True)
        ]
        ranked = sorted(candidates, key=lambda c: len(candidates) + 1 if c.rank is None else c.rank)
        return cls(sample, tuple(ranked), Sentences({d.id: d.text for d in sample.documents}))

    @property
    def id(self) -> str:
        return self.sample.id

    def candidate(self, id_: str) -> ScoredCandidate:
        """The candidate with this id. Raises KeyError."""
        for candidate in self.candidates:
            if candidate.id == id_:
                return candidate
        raise KeyError(id_)

    def words(self, span: Span) -> str:
        """The document's words at these characters; empty where the document isn't known."""
        return self._sentences.texts.get(span.document, "")[span.start : span.end]

    def closest(self, statement: JudgedStatement) -> Span | None:
        """Where to look first: what the judge quoted, else the sentence of the evidence most like the statement.

        A statement without evidence was judged on all of the documents, and so are they looked through.
        """
        for quotation in statement.quotations:
            if quotation.span is not None:
                return quotation.span
        documents = (Span(document, 0, len(text)) for document, text in self._sentences.texts.items())
        return self._sentences.closest(statement.text, statement.evidence or documents)

    def facts(self, *, words: bool = False) -> dict[str, JSON]:
        """All that is known of the sample, as JSON: its documents, and its candidates, ranked, with the reasons.

        A candidate has its rows of ``rewards.jsonl`` and ``judgements.jsonl``; a statement also ``closest``, the span
        to look at first, and what is unscored ``help``. With ``words``, spans have the document's words.
        """
        from lrf.stages.outcome.facts import sample_facts, with_words

        facts = sample_facts(self)
        return with_words(self, facts) if words else facts

    def __repr__(self) -> str:
        best = self.candidates[0] if self.candidates else None
        top = f", best {best.id!r} ({best.reward.reward:.2f})" if best and best.reward.reward is not None else ""
        return f"ScoredSample({self.id!r}, {len(self.candidates)} candidates{top})"

    def _repr_html_(self) -> str:
        names = list(dict.fromkeys(name for c in self.candidates for name in c.reward.ratings))
        head = "".join(f"<th>{escape(name)}</th>" for name in ("rank", "candidate", "reward", *names, "unscored"))
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td>{escape(cell)}</td>"
                for cell in (
                    str(c.rank or "–"), c.id, _number(c.reward.reward),
                    *(_number(c.reward.ratings.get(name)) for name in names),
                    c.reward.unscored.reason if c.reward.unscored else "",
                )
            )
            + "</tr>"
            for c in self.candidates
        )  # fmt: skip
        query = escape(self.sample.query[:300])
        return f"<p><b>{escape(self.id)}</b> {query}</p><table><tr>{head}</tr>{rows}</table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
