"""What each kind of component must be able to do. A component is an ordinary class with the members of one of these.

Its class is called with its settings as the only argument (the model that its :class:`lrf.ComponentSpec` names); a
retriever that needs an embedder also gets the engine's ``embed`` function. No base class is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrf.protocols.evaluation import Benchmark as Benchmark
from lrf.protocols.evaluation import BenchmarkItem as BenchmarkItem
from lrf.protocols.evaluation import Decision as Decision
from lrf.protocols.evaluation import Judged as Judged
from lrf.protocols.evaluation import Recorded as Recorded
from lrf.protocols.models import (
    AnswersSeveral as AnswersSeveral,
)
from lrf.protocols.models import (
    Capabilities,
    Embedder,
    GenerationSettings,
    Judge,
    Sampler,
)
from lrf.protocols.models import (
    Detachable as Detachable,
)
from lrf.protocols.models import (
    Embed as Embed,
)
from lrf.protocols.models import (
    EmbedKind as EmbedKind,
)
from lrf.protocols.models import (
    ReportsMetrics as ReportsMetrics,
)
from lrf.protocols.placing import Executor as Executor
from lrf.protocols.retrieval import Index, Retriever
from lrf.protocols.retrieval import ListsChunks as ListsChunks
from lrf.protocols.retrieval import SearchesInMemory as SearchesInMemory
from lrf.protocols.scoring import Aggregator, Context, Dimension, Pairing, Source
from lrf.protocols.scoring import AsksKinds as AsksKinds
from lrf.protocols.scoring import ExplainsLosers as ExplainsLosers
from lrf.protocols.scoring import GivesRewardsFrom as GivesRewardsFrom
from lrf.protocols.scoring import HashesContent as HashesContent
from lrf.protocols.scoring import LimitsStatements as LimitsStatements
from lrf.protocols.scoring import Observer as Observer
from lrf.protocols.scoring import SpreadsSamples as SpreadsSamples
from lrf.protocols.training import Answers as Answers
from lrf.protocols.training import Launcher as Launcher
from lrf.protocols.training import LaunchJob as LaunchJob
from lrf.protocols.training import LaunchPlan as LaunchPlan
from lrf.protocols.training import Rewards as Rewards
from lrf.protocols.training import Trainer, TrainingJob, TrainingResult

if TYPE_CHECKING:
    from lrf.protocols.models import Vectors as Vectors

__all__ = [
    "Aggregator",
    "Capabilities",
    "Context",
    "Dimension",
    "Embedder",
    "GenerationSettings",
    "Index",
    "Judge",
    "Pairing",
    "Retriever",
    "Sampler",
    "Source",
    "Trainer",
    "TrainingJob",
    "TrainingResult",
]
