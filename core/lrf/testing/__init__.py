"""For tests of lrf and of its plugins: a scripted judge, an embedder without a model, attacks, and component checks.

The hypothesis strategies are in :mod:`lrf.testing.strategies`, which needs hypothesis; nothing else here does.
"""

from __future__ import annotations

from lrf.testing.attack_effect import AttackEffect, check_attacks, effects_table, measure_attacks
from lrf.testing.attacks import ATTACKS, ATTACKS_BY_KIND
from lrf.testing.components import check_aggregator, check_pairing, check_source
from lrf.testing.context import DirectContext
from lrf.testing.dimensions import check_dimension
from lrf.testing.embedder import HashEmbedder
from lrf.testing.judge import ScriptedJudge, valid_reply
from lrf.testing.models import check_embedder, check_judge
from lrf.testing.planted_judges import PLANTED_JUDGES, honest_reply
from lrf.testing.plugins import check_plugin
from lrf.testing.retrievers import check_retriever
from lrf.testing.samplers import check_sampler

__all__ = [
    "ATTACKS",
    "ATTACKS_BY_KIND",
    "PLANTED_JUDGES",
    "AttackEffect",
    "DirectContext",
    "HashEmbedder",
    "ScriptedJudge",
    "check_aggregator",
    "check_attacks",
    "check_dimension",
    "check_embedder",
    "check_judge",
    "check_pairing",
    "check_plugin",
    "check_retriever",
    "check_sampler",
    "check_source",
    "effects_table",
    "honest_reply",
    "measure_attacks",
    "valid_reply",
]
