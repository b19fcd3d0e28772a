from __future__ import annotations

from importlib import metadata

import pytest

from lrf.errors import PluginError
from lrf.plugin.catalog import Catalog, load_settings, load_target
from lrf.plugin.loader import load_plugins
from lrf.plugin.spec import ComponentSpec

BUILT_IN = ",".join(e.name for e in metadata.distribution("lrf").entry_points.select(group="lrf"))


def plugin(*names: str) -> str:
    specs = ", ".join(f"ComponentSpec({n!r}, 'parts:Judge', 'parts:JudgeSettings', 'A judge.')" for n in names)
    return f"""
        from lrf.plugin.hookspecs import hookimpl
        from lrf.plugin.spec import ComponentSpec

        @hookimpl
        def lrf_register_judges():
            return [{specs}]
    """


def catalog(disabled: str = BUILT_IN) -> Catalog:
    return Catalog(load_plugins({"LRF_DISABLE_PLUGINS": disabled}))


def test_components_are_listed_by_name_and_found_by_kind_and_name(distribute) -> None:
    distribute("acme", "3.0", entry_points={"acme": "acme_plugin"}, modules={"acme_plugin": plugin("zebra", "ant")})
    found = catalog()
    assert [s.name for s in found.specs("judge")] == ["ant", "zebra"]
    assert found.specs("embedder") == []
    spec = found.find("judge", "zebra")
    assert found.package_of(spec).name == "acme"
    assert found.package_of(spec).version == "3.0"


def test_an_unknown_name_is_answered_with_what_there_is_and_a_near_match(distribute) -> None:
    distribute("acme", entry_points={"acme": "acme_plugin"}, modules={"acme_plugin": plugin("zebra", "ant")})
    with pytest.raises(PluginError) as error:
        catalog().find("judge", "zerba")
    assert "unknown judge 'zerba'; available: ant, zebra; did you mean zebra?" in str(error.value)
    with pytest.raises(PluginError, match="no trainer is installed"):
        catalog().find("trainer", "x")


def test_an_unknown_name_tells_of_the_broken_plugin_that_may_have_it(distribute) -> None:
    distribute("acme", entry_points={"oracle": "acme_oracle"}, modules={"acme_oracle": "import missing_library"})
    with pytest.raises(PluginError) as error:
        catalog().find("judge", "oracle")
    assert "'oracle' of acme 1.0" in str(error.value)
    assert "missing_library" in str(error.value)


def test_an_unknown_name_tells_of_disabled_plugins() -> None:
    with pytest.raises(PluginError, match=r"disabled by LRF_DISABLE_PLUGINS: .*openai"):
        catalog("*").find("judge", "openai")


def test_a_name_of_two_plugins_stops_only_who_uses_it(distribute) -> None:
    distribute("acme-one", entry_points={"one": "acme_one"}, modules={"acme_one": plugin("same", "mine")})
    distribute("acme-two", entry_points={"two": "acme_two"}, modules={"acme_two": plugin("same")})
    found = catalog()
    assert found.find("judge", "mine").name == "mine"
    with pytest.raises(PluginError) as error:
        found.find("judge", "same")
    assert "acme-one 1.0" in str(error.value)
    assert "acme-two 1.0" in str(error.value)
    (conflict,) = found.conflicts
    assert (conflict.kind, conflict.name, len(conflict.registrations)) == ("judge", "same", 2)
    assert [s.name for s in found.specs("judge")] == ["mine"]


def spec(target: str = "acme_parts:Judge", settings: str = "acme_parts:JudgeSettings", extra: str | None = None):
    return ComponentSpec("oracle", target, settings, "A judge.", extra=extra, distribution="acme")


PARTS = """
    from lrf.settings import Settings

    class JudgeSettings(Settings):
        pass

    class Judge:
        class Inner:
            pass
"""


def test_a_component_is_resolved_to_its_class_and_its_settings(distribute) -> None:
    distribute("acme", modules={"acme_parts": PARTS})
    assert load_target(spec()).__name__ == "Judge"
    assert load_target(spec("acme_parts:Judge.Inner")).__name__ == "Inner"
    assert load_settings(spec()).__name__ == "JudgeSettings"


def test_a_missing_library_is_answered_with_the_extra_to_install(distribute) -> None:
    distribute("acme", modules={"acme_heavy": "import missing_library"})
    with pytest.raises(PluginError) as error:
        load_target(spec("acme_heavy:Judge", extra="heavy"))
    assert "missing_library" in str(error.value)
    assert "pip install 'acme[heavy]'" in str(error.value)
    with pytest.raises(PluginError, match=r"missing_library'$"):
        load_target(spec("acme_heavy:Judge"))


def test_a_promise_that_is_not_kept_is_a_plugin_error(distribute) -> None:
    distribute("acme", modules={"acme_parts": PARTS})
    with pytest.raises(PluginError, match="loading acme_parts:Nobody failed"):
        load_target(spec("acme_parts:Nobody"))
    with pytest.raises(PluginError, match=r"no subclass of lrf\.Settings"):
        load_settings(spec(settings="acme_parts:Judge"))


def test_a_component_whose_module_ends_the_program_is_a_plugin_error(distribute) -> None:
    distribute("acme", modules={"acme_exit": "import sys; sys.exit('no')"})
    with pytest.raises(PluginError, match="loading acme_exit:Judge failed: SystemExit: no"):
        load_target(spec("acme_exit:Judge"))
