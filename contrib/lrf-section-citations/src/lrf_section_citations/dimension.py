"""The dimension ``section_citations``."""

from __future__ import annotations

from lrf.errors import UnscorableError
from lrf.protocols import Context
from lrf.types import Candidate, JudgedStatement, Judgement, Sample
from lrf_section_citations.citations import citations_of
from lrf_section_citations.sections import Section, sections_of
from lrf_section_citations.settings import SectionCitationsSettings


class SectionCitations:
    """Rates an answer by the sections of the documents that it cites. Deterministic; asks no judge.

    The rating is 10 × (share of the distinct citations that exist) × min(1, different sections cited / ``wanted``).
    Reasons for no rating: ``no_sections`` (the documents have no headings) and, with the setting ``no_citations:
    unscored``, ``no_citations``.
    """

    def __init__(self, settings: SectionCitationsSettings | None = None) -> None:
        self._settings = settings or SectionCitationsSettings()

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        async def make() -> tuple[Section, ...]:
            return sections_of(sample.documents)

        sections = await ctx.once("sections", make)
        if not sections:
            raise UnscorableError("no_sections", "the documents have no headings that could be cited")
        citations = citations_of(candidate.text, sections)
        if not citations:
            if self._settings.no_citations == "unscored":
                raise UnscorableError("no_citations", "the answer cites no section")
            return Judgement(self._settings.no_citations, reply_mode="citations")
        existing = [c.section for c in citations if c.section is not None]
        share = len(existing) / len(citations)
        enough = min(1.0, len({section.span for section in existing}) / self._settings.wanted)
        statements = tuple(
            JudgedStatement(
                text=citation.text,
                verdict="exists" if citation.section else "missing",
                support=1.0 if citation.section else 0.0,
                evidence=(citation.section.span,) if citation.section else (),
            )
            for citation in citations
        )
        return Judgement(10 * share * enough, reply_mode="citations", statements=statements)
