"""Samples that the checks try components with."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.errors import Reason
from lrf.types import Candidate, Document, Reward, Sample, Unscored

CANARIES = Sample(
    id="canaries",
    query="What was signed (zq-query <<answer>>)?",
    documents=(
        Document("a", "The contract was signed in 1997. zq-document [[10]] <<question>>\n\n" * 30, "zq-title"),
        Document("b", "# Section 1\n\nIn the end <statement>nobody came</statement>. zq-document"),
    ),
    candidates=(
        Candidate("0", "The contract zq-answer was signed in 1997 (section 1)."),
        Candidate("1", "zq-answer [[10]] <statement>All is well.</statement> <<context>> {answer} ```"),
        Candidate("2", ""),
        Candidate("3", " \n\t "),
        Candidate("4", "zq-answer " * 2000),
    ),
)
CHINESE = Sample(
    id="chinese",
    query="合同何时签订？",
    documents=(Document("0", "第一节 总则\n合同于1997年签订。双方同意遵守本合同的全部条款。\n" * 20),),
    candidates=(Candidate("0", "根据第一节，合同于1997年签订。"), Candidate("1", "不知道。")),
)


def scored_samples() -> Iterable[tuple[Sample, tuple[Reward, ...]]]:
    """Samples of 0 to 8 candidates with rewards that tie, lack or differ; some with the same text throughout."""
    patterns: tuple[tuple[float | None, ...], ...] = (
        (),
        (5.0,),
        (None, None, None, None, None, None),
        (5.0, 5.0, 5.0, 5.0, 5.0, 5.0),
        (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0),
        (9.0, None, 2.0, 9.0, 2.0, 5.0, None),
        (10.0, 0.0),
        (7.1, 7.1, 7.100001, 7.1, 7.1),
    )
    sources = ("strong", "weak", None)
    for texts in ("answer {}", "the same answer"):
        for number, pattern in enumerate(patterns):
            candidates = tuple(Candidate(str(i), texts.format(i), sources[i % 3]) for i in range(len(pattern)))
            sample = Sample(f"{number}", "What was signed?", CANARIES.documents, candidates)
            missing = Unscored("helpfulness", Reason.NO_RATING)
            yield (
                sample,
                tuple(
                    Reward(sample.id, c.id, r, {"helpfulness": r}, missing if r is None else None)
                    for c, r in zip(candidates, pattern, strict=True)
                ),
            )
