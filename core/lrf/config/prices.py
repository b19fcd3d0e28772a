"""The price file: lrf's own, and the one that a pipeline names with ``prices:``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError

from lrf.config.problems import Problems
from lrf.config.pydantic_errors import report
from lrf.config.yaml_document import read_document, read_text
from lrf.errors import ConfigError
from lrf.plugin.suggest import did_you_mean
from lrf.prices import Price
from lrf.settings import ModelReference, Settings

SAMPLING = "(sampling)"
"""The name of the sampler's calls in accounts; no judge and no dimension can have it."""

BUILT_IN = Path(__file__).with_name("prices.yaml")


class ModelPrice(Settings):
    """The prices of one model, each for a million tokens."""

    model: str = Field(min_length=1, description="Name of the model, as the judge's `model` has it.")
    host: str | None = Field(
        default=None, description="Host of the judge's `base_url` for which the price counts; any, if left out."
    )
    currency: str | None = Field(default=None, description="Currency, where it isn't the file's.")
    input: Decimal = Field(ge=0, description="A million tokens of prompt.")
    cached_input: Decimal | None = Field(
        default=None,
        ge=0,
        description="A million tokens of prompt that the server had cached; as `input`, if left out.",
    )
    cache_write: Decimal | None = Field(
        default=None,
        ge=0,
        description="A million tokens of prompt that the server puts into its cache; as `input`, if left out.",
    )
    output: Decimal = Field(ge=0, description="A million tokens of reply.")
    batch_discount: Decimal = Field(default=Decimal(0), ge=0, le=1, description="Share that a batch run saves.")
    cached_from: int = Field(default=0, ge=0, description="Shorter shared beginnings are not cached, in tokens.")
    source: str = Field(default="", description="Where the price comes from.")
    checked: str = Field(default="", description="When and in what it was last compared; empty: never.")


class PriceFile(Settings):
    """A price file."""

    version: str = Field(min_length=1, description="What names this state of the prices, such as a date.")
    currency: str = Field(min_length=1, description="Currency of the prices, such as USD.")
    built_in: bool = Field(default=True, description="Whether lrf's own prices count for models that aren't listed.")
    models: list[ModelPrice] = Field(description="The prices. Of several that fit a judge, the first counts.")


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices in use. ``version`` is that of the file."""

    version: str
    entries: tuple[tuple[ModelPrice, str], ...]

    def of(self, model: ModelReference | None) -> Price | None:
        """The price of a model at its host, in batches if it is asked so; None if the files have none."""
        if model is None:
            return None
        fits = ((e, c) for e, c in self.entries if e.model == model.name and e.host in (None, model.host))
        return next((_price(e, c, batch=model.batch) for e, c in fits), None)

    def of_model(self, model: str) -> Price | None:
        """The price of a model on any host: for replies of a judge that is no longer in the pipeline."""
        return next((_price(e, c, batch=False) for e, c in self.entries if e.model == model), None)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(e.model for e, _ in self.entries))


def read_prices(path: Path | None = None) -> Prices:
    """The prices of a file, and lrf's own behind them; only lrf's own without a file.

    Raises :class:`lrf.errors.ConfigError` with every mistake: file, line, path, what is allowed.
    """
    if path is None:
        return _built_in()
    file = _read(path)
    own = tuple((entry, entry.currency or file.currency) for entry in file.models)
    return Prices(file.version, own + (_built_in().entries if file.built_in else ()))


@cache
def _built_in() -> Prices:
    file = _read(BUILT_IN)
    return Prices(file.version, tuple((entry, entry.currency or file.currency) for entry in file.models))


def _read(path: Path) -> PriceFile:
    problems = Problems(str(path))
    document = read_document(read_text(path, "it should hold prices"), problems, {})
    file = None
    try:
        file = PriceFile.model_validate(document.values)
    except ValidationError as error:
        report(error, PriceFile, (), document, problems)
    problems.raise_any()
    assert file is not None, "the price file was refused without a reason"
    return file


def priced(judges: Mapping[str, Settings], prices: Prices, *, needed: bool = False) -> dict[str, Price]:
    """The prices of the judges that have one, by name; ``judges`` are their settings.

    Raises :class:`lrf.errors.ConfigError` when they are ``needed`` and one is missing, or they don't add up because
    they are in different currencies.
    """
    known = {name: prices.of(settings.model_reference) for name, settings in judges.items()}
    prices_of_judges = {name: price for name, price in known.items() if price is not None}
    missing = [name for name in judges if name not in prices_of_judges]
    if needed and missing:
        name = missing[0]
        reference = judges[name].model_reference
        model = reference.name if reference else type(judges[name]).__name__
        who = "sampler" if name == SAMPLING else f"judge {name}"
        raise ConfigError(
            f"the {who} ({model}) has no price, so a budget of money can't be kept; give one in a file that "
            f"`prices:` names (0 for a model that costs nothing){did_you_mean(model, prices.models)}"
        )
    currencies = sorted({price.currency for price in prices_of_judges.values()})
    if needed and len(currencies) > 1:
        raise ConfigError(
            f"the judges' prices are in {' and '.join(currencies)}; a budget of money needs one currency: give the "
            "prices in one, in a file that `prices:` names"
        )
    return prices_of_judges


def _price(entry: ModelPrice, currency: str, *, batch: bool) -> Price:
    share = 1 - entry.batch_discount if batch else Decimal(1)

    def units(a_million: Decimal) -> int:
        return int((a_million * share * 1_000_000).to_integral_value(ROUND_CEILING))

    cached = entry.input if entry.cached_input is None else entry.cached_input
    written = None if entry.cache_write is None else units(entry.cache_write)
    return Price(currency, units(entry.input), units(cached), units(entry.output), entry.cached_from, written)
