"""A sample and its candidates as JSON, for ``lrf show --json`` and for reports."""

from __future__ import annotations

from lrf.stages.outcome.joined import ScoredCandidate, ScoredSample
from lrf.stages.score.gate import advice
from lrf.stages.score.rows import judgement_row, reward_row
from lrf.types import JSON, JudgedStatement, Judgement, Span


def sample_facts(sample: ScoredSample) -> dict[str, JSON]:
    """The sample with its documents, and its candidates as :func:`candidate_facts`, ranked."""
    return {
        "id": sample.id,
        "query": sample.sample.query,
        "reference": sample.sample.reference,
        "documents": [{"id": d.id, "title": d.title, "text": d.text} for d in sample.sample.documents],
        "candidates": [candidate_facts(sample, candidate) for candidate in sample.candidates],
    }


def candidate_facts(sample: ScoredSample, candidate: ScoredCandidate) -> dict[str, JSON]:
    """A candidate's rows of ``rewards.jsonl`` and ``judgements.jsonl`` in one, and more:

    ``rank``, ``source`` and ``text``; ``closest``, a statement's span to look at first, or null; and ``help``, what
    helps against the reason of being unscored.
    """
    reward = candidate.reward
    judgements = judgement_row(reward)["judgements"]
    for name, judgement in reward.judgements.items():
        if isinstance(judgement, Judgement):
            rows = judgements[name].get("statements", ())
            for statement, row in zip(judgement.statements, rows, strict=True):
                row["closest"] = _span(sample, statement)
        else:
            judgements[name]["unscored"]["help"] = advice(judgement.reason)
    facts = {k: v for k, v in reward_row(reward).items() if k not in ("sample_id", "candidate_id")}
    if reward.unscored is not None:
        facts["unscored"]["help"] = advice(reward.unscored.reason)
    return {
        "id": candidate.id,
        "rank": candidate.rank,
        "source": candidate.candidate.source,
        "text": candidate.text,
        **facts,
        "judgements": judgements,
    }


def with_words(sample: ScoredSample, facts: dict[str, JSON]) -> dict[str, JSON]:
    """The facts with the documents' words beside every span, for readers who have no documents."""

    def filled(value: JSON) -> JSON:
        if isinstance(value, dict):
            if value.keys() == {"document", "start", "end"}:
                return {**value, "words": sample.words(Span(**value))}
            return {name: filled(part) for name, part in value.items()}
        return [filled(part) for part in value] if isinstance(value, list) else value

    result: dict[str, JSON] = filled(facts)
    return result


def _span(sample: ScoredSample, statement: JudgedStatement) -> JSON:
    place = sample.closest(statement)
    return None if place is None else {"document": place.document, "start": place.start, "end": place.end}
