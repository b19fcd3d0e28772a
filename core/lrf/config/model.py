"""The parsed pipeline: its settings that name no component, and the blocks of its components."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from lrf.errors import ConfigError
from lrf.plugin.spec import ComponentSpec
from lrf.prompting.requests import PanelRule, RatingMode
from lrf.prompting.templates import Template
from lrf.rows.part import Part
from lrf.settings import FilePath, Settings
from lrf.types import JSON

PROMPT_FIELDS = ("context", "question")
"""The fields of ``policy.prompt_template``."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def safe_name(name: str) -> str:
    """The name, if it is also a safe file name. Raises ValueError."""
    if not _SAFE_NAME.fullmatch(name):
        raise ValueError(
            "expected letters, digits, '.', '_' and '-', beginning with a letter, a digit or '_', at most 100"
        )
    return name


SafeName = Annotated[str, AfterValidator(safe_name)]
"""A name that is also a safe file name."""


def _prompt_template(text: str) -> str:
    try:
        Template(text, PROMPT_FIELDS, "the template")
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


def _model(name: str, info: ValidationInfo) -> str:
    """A relative path starts at the pipeline's folder; a model's name is left as it is."""
    folder = (info.context or {}).get("folder")
    if folder is None or not name.startswith(("./", "../", "~/")):
        return name
    return str(Path(os.path.normpath(Path(folder) / Path(name).expanduser())))


def _part(text: str) -> str:
    Part.parse(text)
    return text


def _interpreter(command: str, info: ValidationInfo) -> str:
    """The path of an interpreter. Links are not followed: in a virtual environment the interpreter is one."""
    folder = (info.context or {}).get("folder")
    if os.sep in command and folder is not None:
        command = str(Path(folder) / Path(command).expanduser())
    path = shutil.which(command)
    if path is None:
        raise ValueError(f"no program {command}; give the path of a Python interpreter")
    return path


Interpreter = Annotated[str, AfterValidator(_interpreter)]
BadRowRule = Literal["stop", "skip"]
CutOffRule = Literal["keep", "drop"]
DuplicateRule = Literal["merge", "keep"]


class Policy(Settings):
    """The model that is trained."""

    model: Annotated[str, AfterValidator(_model)] | None = Field(
        default=None, description="Name or path of the policy, as transformers loads it."
    )
    prompt_template: Annotated[str, AfterValidator(_prompt_template)] = Field(
        default="<<context>>\n\n<<question>>",
        description="How context and query become the policy's prompt: the fields are <<context>> and <<question>>.",
    )
    trust_remote_code: bool = Field(
        default=False, description="Whether models may bring Python code of their own, which is then run."
    )


class BudgetSettings(Settings):
    """The most that a run may use, over all its resumptions."""

    calls: int | None = Field(default=None, ge=1, description="Calls to judges, and candidates of a sampler.")
    tokens: int | None = Field(default=None, ge=1, description="Tokens of judges and sampler, prompt and reply.")
    money: float | None = Field(
        default=None,
        gt=0,
        description="Money for judges and sampler, in the currency of their prices; each needs a price.",
    )


class Calibration(Settings):
    """Samples that are scored when scoring begins and again when it ends."""

    path: FilePath = Field(description="A file of JSON Lines with rows as in the data, candidates included.")
    max_drift: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="By how much the ratings of a dimension may differ on average between the two times without an "
        "alarm.",
    )


class Interpreters(Settings):
    """Python interpreters of the stages that need an environment of their own."""

    sample: Interpreter | None = Field(default=None, description="Interpreter that samples.")
    score: Interpreter | None = Field(default=None, description="Interpreter that scores.")
    pairs: Interpreter | None = Field(default=None, description="Interpreter that makes pairs.")
    train: Interpreter | None = Field(default=None, description="Interpreter that trains.")


class GlobalSettings(Settings):
    """The keys of a pipeline that are not components."""

    name: SafeName = Field(description="Name of the pipeline, and of its folder under runs/.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of everything that is drawn at random.")
    method: Literal["lrf", "paper"] = Field(
        default="lrf",
        description="paper: the defaults of components become those of LongReward's public scorer, so that the same "
        "replies and vectors give its numbers.",
    )
    part: Annotated[str, AfterValidator(_part)] | None = Field(
        default=None,
        description="The part of the data that this run takes, as NUMBER/PARTS: 3/8 is the third of eight. Samples of "
        "the same documents are in one part. Null: all.",
    )
    policy: Policy = Field(default=Policy(), description="The model that is trained.")
    python: Interpreters = Field(
        default=Interpreters(), description="Python interpreter of a stage that needs an environment of its own."
    )
    max_unscored: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of candidates that may end unscored before the run counts as failed; and, where candidates "
        "are sampled, share of the samples that may end without any.",
    )
    budget: BudgetSettings = Field(default=BudgetSettings(), description="What a run may use at most.")
    calibration: Calibration | None = Field(
        default=None,
        description="Samples scored at the start and at the end of scoring, to notice that the judge has changed. They "
        "are paid for twice and are no part of the rewards.",
    )
    prices: FilePath | None = Field(
        default=None, description="A file with prices of models; what it doesn't list has lrf's own price, if any."
    )
    cache: FilePath | None = Field(
        default=None,
        description="A file of replies and embeddings that runs share, also at the same time: what is in it isn't paid "
        "for again. It is made if it isn't there.",
    )


class DataKeys(Settings):
    """The keys of every data source besides its own settings."""

    on_bad_row: BadRowRule = Field(
        default="stop",
        description="What happens at a row that isn't a valid sample: stop the run, or skip the row and count it.",
    )


class RateKeys(Settings):
    """The keys of every judge, embedder and sampler besides its own settings."""

    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Most requests in any minute, spread over it: a tenth of them in any 6 s at most; null: no limit.",
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens of prompts and replies in any minute, spread over it: once a tenth of them was sent "
        "in 6 s, the next call waits; null: no limit. "
        "Until a call's reply reports its tokens, the most that it can take are counted.",
    )


class DimensionKeys(Settings):
    """The keys of every dimension besides its own settings."""

    by_method: ClassVar[Mapping[str, Mapping[str, JSON]]] = {"paper": {"rating": "text"}}

    name: SafeName | None = Field(
        default=None, description="Name of the dimension in ratings and files; its type, if left out."
    )
    rating: RatingMode = Field(
        default="auto",
        description="How ratings, verdicts and choices are asked for: as a mark in free text after an analysis (text), "
        "as a JSON object (json), or as the expectation over the probabilities of all ratings (logprobs). auto takes "
        "the last of these that the judge is capable of.",
    )
    repeat: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Draws of each rating, verdict or choice; their mean counts and their spread is kept. The first is "
        "made at temperature 0.01, the others at 0.95.",
    )
    judges: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="A panel, in place of judge: each of these judges rates. Statements and notes are the first's.",
    )
    panel: PanelRule = Field(
        default="mean",
        description="How the ratings of a panel become one. trimmed_mean leaves out the highest and the lowest of "
        "three or more. Of verdicts the mean of the supports counts. cascade asks the judges one after another: the "
        "first that is `sure` decides, else the last. Statements and notes are then the last's.",
    )
    sure: float = Field(
        default=0.9,
        gt=0.5,
        le=1,
        description="The probability that a judge of a cascade must give its rating, verdict or choice to decide.",
    )
    writer: str | None = Field(
        default=None,
        description="Judge that writes what isn't rated: statements, notes. For judges that decide and can't write; "
        "null: the judge itself.",
    )
    panel_min: int | None = Field(
        default=None,
        ge=1,
        description="How many judges of the panel must answer a question, or the candidate is unscored; null: all.",
    )


class SampleKeys(RateKeys):
    """The keys of every sampler besides its own settings."""

    n: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Candidates that each sample has after sampling, those in the data included.",
    )
    temperature: float = Field(default=1.0, ge=0, le=2, description="Sampling temperature; 0 takes the likeliest.")
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Tokens are drawn from the likeliest ones that together have this probability.",
    )
    max_tokens: int = Field(default=1024, ge=1, description="Longest candidate, in tokens of the policy.")
    on_cut_off: CutOffRule = Field(
        default="keep",
        description="Whether to keep or to drop a candidate that was cut off at max_tokens. One that is kept is "
        "trained without an end.",
    )
    duplicates: DuplicateRule = Field(
        default="merge",
        description="Whether candidates of a sample with equal texts become one (merge) or stay (keep).",
    )


RESERVED: Mapping[str, type[Settings]] = {
    "source": DataKeys,
    "sampler": SampleKeys,
    "judge": RateKeys,
    "embedder": RateKeys,
    "dimension": DimensionKeys,
}
"""The keys of a block that are not settings of the component, by kind; the kinds that it needs come on top."""


def reserved_keys(kind: str, spec: ComponentSpec) -> tuple[str, ...]:
    """The keys of this component's block that are not its settings. Keys about judges are for dimensions with one."""
    keys = tuple(RESERVED[kind].model_fields) if kind in RESERVED else ()
    return ("name",) if kind == "dimension" and "judge" not in spec.needs else keys


def needed_kinds(spec: ComponentSpec, settings: Settings) -> tuple[str, ...]:
    """The kinds of component that this one needs with these settings."""
    return tuple(kind for kind in spec.needs if kind not in settings.without)


@dataclass(frozen=True, slots=True)
class ComponentBlock:
    """A component of a pipeline: what it is, its settings, and the names of the components it works with.

    ``name`` is what the pipeline calls it; of a block that has no name of its own, the type. ``needs`` has an entry
    for each kind that it needs with its settings; of a panel, ``needs["judge"]`` is the first judge. ``reserved`` are
    the keys of the block that are lrf's own.
    """

    kind: str
    name: str
    type: str
    spec: ComponentSpec
    settings: Settings
    needs: Mapping[str, str]
    reserved: Settings | None = None

    @property
    def keys(self) -> DimensionKeys:
        """A dimension's keys besides its settings."""
        return self.reserved if isinstance(self.reserved, DimensionKeys) else DimensionKeys()

    @property
    def generation(self) -> SampleKeys:
        """A sampler's keys besides its settings."""
        return self.reserved if isinstance(self.reserved, SampleKeys) else SampleKeys()

    @property
    def rates(self) -> RateKeys:
        """How much may be sent to the component a minute."""
        return self.reserved if isinstance(self.reserved, RateKeys) else RateKeys()

    @property
    def raters(self) -> tuple[str, ...]:
        """Names of the judges that rate for a dimension: its own, then the others of its panel."""
        return self.keys.judges or tuple(name for kind, name in self.needs.items() if kind == "judge")

    @property
    def judges(self) -> tuple[str, ...]:
        """Names of all judges that a dimension asks, each once: those that rate, and the one that writes."""
        writer = self.keys.writer
        return self.raters if writer is None or writer in self.raters else (*self.raters, writer)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline, with every part of it checked.

    ``resolved`` is the pipeline as plain JSON values, with defaults filled in and what came from the environment as
    ``${NAME}``; it is itself a pipeline. ``folder`` is where relative paths start.
    """

    name: str
    seed: int
    data: ComponentBlock | None
    sample: ComponentBlock | None
    on_bad_row: BadRowRule
    judges: Mapping[str, ComponentBlock]
    embedders: Mapping[str, ComponentBlock]
    retrievers: Mapping[str, ComponentBlock]
    dimensions: tuple[ComponentBlock, ...]
    aggregator: ComponentBlock | None
    pairs: ComponentBlock | None
    train: ComponentBlock | None
    launcher: ComponentBlock | None
    observers: tuple[ComponentBlock, ...]
    executor: ComponentBlock | None
    policy: Policy
    part: Part | None
    python: Mapping[str, str]
    max_unscored: float
    cache: Path | None
    budget: BudgetSettings
    calibration: Calibration | None
    prices: Path | None
    folder: Path
    file: Path | None
    resolved: Mapping[str, JSON]

    @property
    def online(self) -> bool:
        """Whether the trainer asks for rewards while it trains, so that no stage scores before it."""
        return self.train is not None and self.train.spec.rewards
