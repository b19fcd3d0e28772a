from __future__ import annotations

from importlib import metadata

import pytest

from lrf.cli.main import invoke
from lrf.errors import PluginError
from lrf.plugin.catalog import load_catalog
from lrf.plugin.loader import BrokenPlugin, Plugins, load_plugins

BUILT_IN = ",".join(e.name for e in metadata.distribution("lrf").entry_points.select(group="lrf"))
GOOD = """
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import ComponentSpec

    @hookimpl
    def lrf_register_judges():
        return [ComponentSpec("oracle", "good_parts:Oracle", "good_parts:OracleSettings", "Knows everything.")]
"""


COMMAND = """
    import click
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import CommandSpec

    @hookimpl
    def lrf_register_commands():
        return [CommandSpec("greet", "acme_command:greet", "Say hello.")]

    @click.command()
    def greet():
        click.echo("hello from a plugin")
        return 3
"""


def load() -> Plugins:
    """What the test's own distributions come to."""
    return load_plugins({"LRF_DISABLE_PLUGINS": BUILT_IN})


def broken(plugins: Plugins, name: str) -> BrokenPlugin:
    return {b.name: b for b in plugins.broken}[name]


def test_a_component_is_registered_under_its_kind_with_its_distribution(distribute) -> None:
    distribute("acme-judge", "2.3", entry_points={"acme": "acme_good"}, modules={"acme_good": GOOD})
    plugins = load()
    (registration,) = plugins.registrations
    assert (registration.kind, registration.spec.name, registration.plugin) == ("judge", "oracle", "acme")
    assert str(registration.package) == "acme-judge 2.3"
    assert plugins.broken == ()


def test_a_plugin_that_cannot_be_imported_does_not_stop_the_others(distribute) -> None:
    distribute(
        "acme",
        entry_points={"a_bad": "acme_bad", "b_exits": "acme_exits", "c_good": "acme_good"},
        modules={"acme_bad": "import no_such_module_anywhere", "acme_exits": "raise SystemExit(3)", "acme_good": GOOD},
    )
    plugins = load()
    assert [r.spec.name for r in plugins.registrations] == ["oracle"]
    assert "no_such_module_anywhere" in broken(plugins, "a_bad").reason
    assert broken(plugins, "a_bad").distribution == "acme 1.0"
    assert "SystemExit: 3" in broken(plugins, "b_exits").reason


def test_an_entry_point_name_of_two_distributions_is_an_error_naming_both(distribute) -> None:
    distribute("acme-one", entry_points={"same": "acme_good"}, modules={"acme_good": GOOD})
    distribute("acme-two", "7.1", entry_points={"same": "other_good"}, modules={"other_good": GOOD})
    with pytest.raises(PluginError) as error:
        load()
    assert "acme-one 1.0" in str(error.value)
    assert "acme-two 7.1" in str(error.value)
    assert load_plugins({"LRF_DISABLE_PLUGINS": f"{BUILT_IN}, same"}).registrations == ()


def test_a_misspelt_hook_breaks_the_plugin_and_names_the_near_match(distribute) -> None:
    source = GOOD.replace("lrf_register_judges", "lrf_register_jugdes")
    distribute(
        "acme", entry_points={"bad": "acme_bad", "good": "acme_good"}, modules={"acme_bad": source, "acme_good": GOOD}
    )
    plugins = load()
    reason = broken(plugins, "bad").reason
    assert "unknown hook lrf_register_jugdes" in reason
    assert reason.endswith("did you mean lrf_register_judges?")
    assert [r.plugin for r in plugins.registrations] == ["good"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (GOOD.replace("def lrf", "async def lrf"), "lrf_register_judges is a coroutine function"),
        (GOOD.replace("return [", "yield ").replace(")]\n", ")\n").replace("def lrf", "async def lrf"), "coroutine"),
        (GOOD.replace("@hookimpl", ""), "lrf_register_judges is not marked as a hook"),
        (GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)").replace("return [", "yield ["), "is a wrapper"),
        (GOOD.replace("judges():", "judges(request):"), "request"),
        (GOOD.replace("return [", "return 3 and None; ["), "returned NoneType"),
        (GOOD.replace("return [", "return ['oracle', "), "returned a str where a ComponentSpec is expected"),
        (GOOD.replace('everything."', 'everything.", api=99'), "version 99 of lrf's plugin interface"),
        (GOOD.replace('"good_parts:Oracle"', '"good_parts.Oracle"'), "target is 'good_parts.Oracle'"),
        (GOOD.replace('"oracle"', '"or acle"'), "name is 'or acle'"),
        (GOOD.replace('"oracle"', "7"), "name is 7"),
        (GOOD.replace('everything."', "everything.\", needs=('oven',)"), "needs is ('oven',)"),
        (GOOD.replace("return [", "return 2 * ["), "registers 'oracle' twice"),
        (GOOD.replace("return [", "raise OSError('disk on fire') or ["), "disk on fire"),
        (COMMAND.replace('"greet"', '"Greet me"'), "name is 'Greet me'"),
        (COMMAND.replace('"acme_command:greet"', '"greet"'), "target is 'greet'"),
        (COMMAND.replace('"Say hello."', '""'), "it must be a line of text"),
        (COMMAND.replace('hello."', 'hello.", 7'), "extra is 7"),
        (COMMAND.replace("return [", "return ['serve', "), "returned a str where a CommandSpec is expected"),
        (COMMAND.replace("return [", "return 2 * ["), "'greet', which is a command already"),
    ],
)
def test_a_plugin_that_registers_wrongly_is_broken_with_its_reason(distribute, source: str, reason: str) -> None:
    distribute(
        "acme", entry_points={"bad": "acme_bad", "good": "acme_good"}, modules={"acme_bad": source, "acme_good": GOOD}
    )
    plugins = load()
    assert reason in broken(plugins, "bad").reason
    assert [r.plugin for r in plugins.registrations] == ["good"]
    assert not plugins.manager.has_plugin("bad")


def test_a_broken_plugin_hears_nothing_of_a_run(distribute) -> None:
    source = """
        from lrf.plugin.hookspecs import hookimpl

        heard = []

        @hookimpl
        def lrf_run_finished(run_dir, summary):
            heard.append(run_dir)
    """
    distribute(
        "acme",
        entry_points={"ear": "acme_ear", "broken_ear": "acme_broken_ear"},
        modules={
            "acme_ear": source,
            "acme_broken_ear": source + "\n        @hookimpl\n        def lrf_no_hook(): ...\n",
        },
    )
    plugins = load()
    plugins.manager.hook.lrf_run_finished(run_dir="runs/x", summary={})
    import acme_broken_ear
    import acme_ear

    assert acme_ear.heard == ["runs/x"]
    assert acme_broken_ear.heard == []


def test_one_module_under_two_names_is_registered_once(distribute) -> None:
    distribute("acme", entry_points={"one": "acme_good", "two": "acme_good"}, modules={"acme_good": GOOD})
    plugins = load()
    assert [r.plugin for r in plugins.registrations] == ["one"]
    assert [b.name for b in plugins.broken] == ["two"]
    assert plugins.manager.has_plugin("one")


def test_plugins_are_disabled_by_name_and_all_of_them_by_a_star(distribute) -> None:
    distribute("acme", entry_points={"good": "acme_good"}, modules={"acme_good": GOOD})
    assert load_plugins({"LRF_DISABLE_PLUGINS": f" good ,{BUILT_IN}"}).registrations == ()
    everything = load_plugins({"LRF_DISABLE_PLUGINS": "*"})
    assert (everything.registrations, everything.broken) == ((), ())
    assert {"good", "openai"} <= set(everything.disabled)


def test_a_command_of_a_plugin_is_the_first_plugins_and_the_second_one_is_broken(distribute) -> None:
    distribute("acme", entry_points={"one": "acme_command", "two": "acme_other"},
               modules={"acme_command": COMMAND, "acme_other": COMMAND})  # fmt: skip
    plugins = load()
    assert [spec.name for spec in plugins.commands] == ["greet"]
    assert "which is a command already" in broken(plugins, "two").reason


def test_lrf_lists_and_runs_a_command_of_a_plugin_but_never_in_place_of_its_own(distribute, capsys) -> None:
    own = COMMAND.replace('"greet"', '"doctor"').replace("Say hello.", "Take over.")
    distribute("acme", entry_points={"acme": "acme_command", "thief": "acme_thief"},
               modules={"acme_command": COMMAND, "acme_thief": own})  # fmt: skip
    load_catalog.cache_clear()
    try:
        assert invoke(["greet"]) == 3
        assert capsys.readouterr().out == "hello from a plugin\n"
        assert invoke(["--help"]) == 0
        listed = capsys.readouterr().out
    finally:
        load_catalog.cache_clear()
    assert "Say hello." in listed
    assert "Take over." not in listed
