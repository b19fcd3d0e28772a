"""Plans of third parties' components: what they say of themselves counts, whatever their settings are called."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from judge_server import JudgeServer
from lrf.config import parse_pipeline
from lrf.planning.plan import Plan, plan_pipeline
from lrf.plugin.catalog import Catalog
from lrf.plugin.loader import load_plugins
from lrf.stages.runner import RunSummary, run_pipeline
from lrf.testing import check_retriever
from lrf.text.chunking import count_tokens
from project import Project

PARTS = """
    from pydantic import Field

    from lrf.settings import Settings
    from lrf.types import Chunk


    class FinderSettings(Settings):
        pieces: int = Field(default=3, description="Pieces a query.")
        letters: int = Field(default=200, description="Letters a piece.")


    class Silent:
        # A retriever that says nothing of itself: pieces of a fixed number of letters, those that share most letters.

        def __init__(self, settings):
            self.pieces, self.letters = settings.pieces, settings.letters

        async def index(self, documents):
            return Found(self.pieces, self._cut(documents))

        def _cut(self, documents):
            return [
                Chunk(d.id, start, end, d.text[start:end])
                for d in documents
                for start in range(0, len(d.text), self.letters)
                for end in [min(len(d.text), start + self.letters)]
            ]

        async def aclose(self):
            pass


    class Finder(Silent):
        # The same, which says what it gives.

        @property
        def chunks_per_query(self):
            return self.pieces

        def chunks(self, documents):
            return self._cut(documents)


    class Found:
        def __init__(self, pieces, chunks):
            self.pieces, self.cut = pieces, chunks

        async def search(self, queries, top_k=None):
            return [self._best(query, self.pieces if top_k is None else top_k) for query in queries]

        def _best(self, query, most):
            shared = [-len({*query.split()} & {*chunk.text.split()}) for chunk in self.cut]
            return [self.cut[i] for i in sorted(sorted(range(len(shared)), key=shared.__getitem__)[:most])]

        async def aclose(self):
            pass
"""
PLUGIN = """
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import ComponentSpec

    @hookimpl
    def lrf_register_retrievers():
        made = [("finder", "Finder"), ("silent", "Silent")]
        return [ComponentSpec(n, f"acme_parts:{c}", "acme_parts:FinderSettings", "Finds.") for n, c in made]
"""


@pytest.fixture
def catalog(distribute: Any) -> Catalog:
    """The built-in components, and a third party's retrievers."""
    distribute("acme", entry_points={"acme": "acme_plugin"}, modules={"acme_plugin": PLUGIN, "acme_parts": PARTS})
    return Catalog(load_plugins())


def sentences_of_the_answer(prompt: str, temperature: float) -> str:
    """Statements as a plan expects them, and a verdict for questions about one."""
    answer = re.findall(r"<answer>\n(.*?)\n</answer>", prompt)[-1:]
    statements = [s for text in answer for s in re.findall(r"[^.]{4,}[.]", text)]
    return "".join(f"<statement>{s.strip()}</statement>" for s in statements) + "\nVerdict: [[Fully supported]]"


def planned_and_run(
    project: Project, judge_server: JudgeServer, catalog: Catalog, retriever: dict[str, Any]
) -> tuple[Plan, RunSummary]:
    pipeline = parse_pipeline(
        project.pipeline(retrievers={"main": retriever}, dimensions=["faithfulness"], pairs=None, max_unscored=1.0),
        catalog,
        folder=project.folder,
    )

    judge_server.reply = sentences_of_the_answer

    async def both() -> tuple[Plan, RunSummary]:
        return await plan_pipeline(pipeline), await run_pipeline(pipeline, catalog, project.runs)

    return asyncio.run(both())


@pytest.mark.parametrize("settings", [{}, {"pieces": 12, "letters": 60}, {"pieces": 1, "letters": 250}])
def test_a_third_partys_retriever_is_planned_within_a_tenth_of_what_a_run_then_takes(
    project: Project, judge_server: JudgeServer, catalog: Catalog, settings: dict[str, int]
) -> None:
    plan, summary = planned_and_run(project, judge_server, catalog, {"type": "finder", **settings})
    planned, prompts = plan.dimensions["faithfulness"], judge_server.books.prompts
    assert planned.calls == len(prompts)
    assert planned.prompt_tokens == pytest.approx(sum(map(count_tokens, prompts)), rel=0.1)
    assert plan.unlisted_retrievers == []
    assert plan.bound_holds
    assert sum(len(prompt.encode()) for prompt in prompts) <= planned.bound_prompt_tokens
    assert summary.status == "finished"


def test_of_a_retriever_that_says_nothing_whole_documents_are_planned_and_the_plan_says_so(
    project: Project, judge_server: JudgeServer, catalog: Catalog
) -> None:
    plan, _ = planned_and_run(project, judge_server, catalog, {"type": "silent", "pieces": 5})
    prompts = judge_server.books.prompts
    assert plan.unlisted_retrievers == ["main"]
    assert not plan.bound_holds
    assert plan.total().prompt_tokens >= sum(map(count_tokens, prompts))
    assert plan.total().bound_prompt_tokens >= sum(len(prompt.encode()) for prompt in prompts)


async def test_the_check_of_retrievers_passes_and_finds_what_is_not_listed(catalog: Catalog) -> None:
    import acme_parts

    settings = acme_parts.FinderSettings(pieces=4, letters=50)
    await check_retriever(acme_parts.Silent(settings))
    await check_retriever(acme_parts.Finder(settings))

    class Modest(acme_parts.Finder):  # type: ignore[misc,name-defined]
        chunks_per_query = 2

    class Forgetful(acme_parts.Finder):  # type: ignore[misc,name-defined]
        def chunks(self, documents: Any) -> Any:
            return self._cut(documents)[1:]

    with pytest.raises(AssertionError, match="chunks_per_query is 2"):
        await check_retriever(Modest(settings))
    with pytest.raises(AssertionError, match=r"which chunks\(\) doesn't list"):
        await check_retriever(Forgetful(settings))
