"""``lrf``: the group of commands, and the exit codes of their errors.

A command's module is imported when the command is used, so that ``lrf --help`` is fast.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

import click

from lrf.cli.output import clean
from lrf.errors import LrfError
from lrf.plugin.suggest import did_you_mean
from lrf.text.redaction import RedactedText

if TYPE_CHECKING:
    from lrf.plugin.spec import CommandSpec

COMMANDS = {
    "init": "Write a commented pipeline to start from.",
    "plan": "Show what a pipeline will do and cost, without running it.",
    "run": "Run a pipeline (score, pair, train), or resume it.",
    "rescore": "Score again what is unscored, or one dimension.",
    "score": "Score one answer, with the reasons.",
    "show": "Show a run's candidates, ranked, and what cost them points.",
    "compare": "Show what differs between two runs.",
    "bench": "Measure a judge on a benchmark, or rewards on people's labels.",
    "audit": "Plant errors in your documents: does the judge find them?",
    "evaluate": "Compare two policies: wins by judge and by people.",
    "doctor": "Show what is installed and what each missing extra would add.",
    "plugins": "List the installed components, and broken plugins.",
    "schema": "Write the JSON Schema of the pipeline file, for editors.",
}
"""lrf's own commands with their summaries. Command NAME is the function NAME of the module ``lrf.cli.NAME``."""


class LazyGroup(click.Group):
    """A group that lists its commands, and those of plugins, without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *_of_plugins()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command: click.Command = getattr(importlib.import_module(f"lrf.cli.{cmd_name}"), cmd_name)
            return command
        spec = _of_plugins().get(cmd_name)
        if spec is None:
            return None
        from lrf.plugin.catalog import load_target

        registered: click.Command = load_target(spec)
        return registered

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            if args[0] not in known:
                ctx.fail(f"no command {args[0]!r}; commands: {', '.join(known)}{did_you_mean(args[0], known)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items(), *((name, spec.summary) for name, spec in _of_plugins().items())])


def _of_plugins() -> Mapping[str, CommandSpec]:
    """The commands of plugins by name. A plugin can't replace one of lrf's own."""
    from lrf.plugin.catalog import load_catalog

    return {name: spec for name, spec in load_catalog().commands.items() if name not in COMMANDS}


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import lrf

        click.echo(f"lrf {lrf.__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Turn any LLM into a reward model for long-context answers, and that reward into a better policy."""


def invoke(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Errors are printed on stderr.

    0: finished; 1: another failure; 2: a mistake in configuration or usage; 3: a gate failed, or counts don't add up;
    4: stopped by a budget; 130: interrupted. A command returns its code or raises an LrfError, which has one.
    """
    try:
        outcome: Any = cli.main(args, prog_name="lrf", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except LrfError as error:
        click.echo(f"lrf: {clean(str(error), lines=True)}", err=True)
        return error.exit_code
    except BrokenPipeError:
        # the reader is gone: the interpreter's last flush must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename2 or error.filename}: " if error.filename else ""
        click.echo(f"lrf: {clean(where)}{error.strerror or error}", err=True)
        return 1
    return outcome if isinstance(outcome, int) else 0


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The console script. No secret appears on its output."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that the encoding lacks are escaped
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = cast(TextIO, RedactedText(sys.stdout)), cast(TextIO, RedactedText(sys.stderr))
    sys.exit(invoke(args))
