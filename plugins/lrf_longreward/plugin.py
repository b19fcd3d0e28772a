"""Registers helpfulness, logicality, faithfulness and completeness."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_dimensions() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="helpfulness",
            target="lrf_longreward.helpfulness:Helpfulness",
            settings="lrf_longreward.settings:HelpfulnessSettings",
            summary="how well the answer serves the person who asked (LongReward)",
            needs=("judge",),
        ),
        ComponentSpec(
            name="logicality",
            target="lrf_longreward.logicality:Logicality",
            settings="lrf_longreward.settings:LogicalitySettings",
            summary="whether the answer is consistent and reasons soundly (LongReward)",
            needs=("judge",),
        ),
        ComponentSpec(
            name="faithfulness",
            target="lrf_longreward.faithfulness:Faithfulness",
            settings="lrf_longreward.settings:FaithfulnessSettings",
            summary="how far the document supports the answer's factual statements (LongReward)",
            needs=("judge", "retriever"),
        ),
        ComponentSpec(
            name="completeness",
            target="lrf_longreward.completeness:Completeness",
            settings="lrf_longreward.settings:CompletenessSettings",
            summary="how much of what the document says on the query the answer covers (LongReward)",
            needs=("judge",),
        ),
    )
