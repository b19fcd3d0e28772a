"""Fixtures of the tests of commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lrf.plugin.catalog import load_catalog


@pytest.fixture(autouse=True)
def _fresh_catalog() -> Iterator[None]:
    load_catalog.cache_clear()
    yield
    load_catalog.cache_clear()
