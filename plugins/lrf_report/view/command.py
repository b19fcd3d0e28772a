"""``lrf view``: serves a run on this machine until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import click
import uvicorn

import lrf
from lrf.errors import ConfigError
from lrf_report.view.app import View, view_app
from lrf_report.view.labels import Preferences, Ratings


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--port", default=8710, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port.")
@click.option("--labels", type=click.Path(dir_okay=False, path_type=Path),
              help="Label answers, and add the labels to this CSV file.")  # fmt: skip
@click.option("--ratings", is_flag=True, help="With --labels: rate each answer, instead of which of two is better.")
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Where relative paths of the run's data start, if it was copied from elsewhere.")  # fmt: skip
def view(run: Path, port: int, labels: Path | None, ratings: bool, folder: Path | None) -> None:
    """Look through RUN (a directory such as runs/my-pipeline) in a browser, however large it is, also while it runs.

    The pages are those of `lrf report`, with all exchanges with judges beside. The server listens on this machine only,
    answers nobody who doesn't have the address that it prints, and never writes into the run. With --labels, answers
    can be labelled: two at a time, or with --ratings one at a time on a scale from 1 to 5, without their names and in a
    random order; `lrf bench FILE --run RUN` then says how well the rewards agree.
    """
    if ratings and labels is None:
        raise ConfigError("--ratings: say with --labels which file they go to")
    if labels is not None and labels.resolve().is_relative_to(run.resolve()):
        raise ConfigError(f"--labels {labels}: it lies in the run, which is never written into; choose another file")
    kept = None if labels is None else Ratings(labels) if ratings else Preferences(labels)
    loaded = lrf.load_run(run, folder=folder)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(f"--port {port}: {error.strerror}; choose another one, or 0 for a free one") from error
        listening.listen()  # who reads the address may ask at once
        index, token = loaded.index(), secrets.token_urlsafe(24)
        try:
            app = view_app(View(loaded, index, token, kept))
            click.echo(f"http://127.0.0.1:{listening.getsockname()[1]}/?token={token}")
            config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False)
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            pass  # the way to end it
        finally:
            index.close()
