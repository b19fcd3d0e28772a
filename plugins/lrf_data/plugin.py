"""Registers the data sources."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_sources() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="jsonl",
            target="lrf_data.jsonl:JsonlSource",
            settings="lrf_data.settings:JsonlSettings",
            summary="rows of JSON Lines files, plain or gzipped",
        ),
        ComponentSpec(
            name="parquet",
            target="lrf_data.parquet:ParquetSource",
            settings="lrf_data.settings:ParquetSettings",
            summary="rows of Parquet files, nested columns included",
        ),
        ComponentSpec(
            name="huggingface",
            target="lrf_data.huggingface:HuggingFaceSource",
            settings="lrf_data.settings:HuggingFaceSettings",
            summary="a dataset of the Hugging Face Hub or of a local folder, streamed",
            extra="datasets",
        ),
        ComponentSpec(
            name="longreward",
            target="lrf_data.longreward:LongRewardSource",
            settings="lrf_data.settings:LongRewardSettings",
            summary="LongReward's layout: documents and sampled answers in two JSON Lines files",
        ),
    )
