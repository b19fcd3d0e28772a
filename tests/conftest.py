"""What holds for every test: hypothesis draws examples without a clock (tests are never timed)."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("lrf", deadline=None)
settings.load_profile("lrf")
