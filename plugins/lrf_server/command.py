"""``lrf serve``: binds the address, makes the model, serves until a signal, and lets what is under way end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import click

from lrf.errors import ConfigError, PluginError
from lrf.text.redaction import hide

TOKEN = "LRF_SERVE_TOKEN"  # noqa: S105 (the name of a variable)


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="The folder of run directories; the journal is that of the run RUNS/NAME.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8700, show_default=True, help="0 takes a free port.")
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="Another name by which clients call this server (repeatable).",
)
@click.option("--certificate", type=click.Path(exists=True, dir_okay=False), help="A certificate chain (PEM), for TLS.")
@click.option("--key", type=click.Path(exists=True, dir_okay=False), help="The certificate's private key (PEM).")
@click.option(
    "--on-missing",
    default="error",
    show_default=True,
    metavar="error|NUMBER",
    help="What doors answer for a missing reward where the stack has no word for it.",
)
@click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    metavar="SECONDS",
    help="How long a request waits for its rewards; left out: as long as its stack does.",
)
@click.option(
    "--share",
    "share_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long notes and indexes of a document are kept for further answers.",
)
@click.option(
    "--max-open",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Answers being scored at once; beyond that, status 429.",
)
@click.option("--max-body-mb", type=click.IntRange(min=1), default=64, show_default=True, help="The longest request.")
@click.option("--max-document-mb", type=click.IntRange(min=1), default=16, show_default=True,
              help="The longest document, in millions of characters.")  # fmt: skip
def serve(
    pipeline: Path,
    runs: Path,
    host: str,
    port: int,
    allowed: tuple[str, ...],
    certificate: str | None,
    key: str | None,
    on_missing: str,
    deadline_s: float | None,
    share_s: float,
    max_open: int,
    max_body_mb: int,
    max_document_mb: int,
) -> int:
    """Serve the rewards of PIPELINE over HTTP. Its data, sample, pairs and train aren't read.

    The first line on standard output is the server's address. Replies go to the journal of the run, so a server that is
    started again pays for nothing twice; no other command can use the run meanwhile. On another address than this
    machine's own, requests must bring the token that the environment variable LRF_SERVE_TOKEN has. SIGTERM and Ctrl-C
    let requests under way end.
    """
    try:
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise PluginError(f"lrf serve can't be used here: {error}; pip install 'lrf[serve]'") from error
    import lrf
    from lrf_server.app import ServerOptions, serving
    from lrf_server.guard import LOOPBACK
    from lrf_server.running import Server, configured

    token = os.environ.get(TOKEN) or None
    if token is not None:
        hide(token, TOKEN)
    if host not in LOOPBACK and token is None:
        raise ConfigError(f"--host {host}: other machines can reach it, so set {TOKEN} to a token that requests bring")
    if bool(certificate) != bool(key):
        raise ConfigError("--certificate and --key: give both, or none")
    options = ServerOptions(
        token=token,
        hosts=LOOPBACK | set(allowed) if host in LOOPBACK or allowed else None,
        on_missing=_on_missing(on_missing),
        deadline_s=deadline_s,
        max_open=max_open,
        max_body_bytes=max_body_mb << 20,
        max_document_characters=max_document_mb * 1_000_000,
    )
    with _bound(host, port) as listening, lrf.RewardModel.from_pipeline(pipeline, runs=runs, share_s=share_s) as model:
        app, scorings = serving(model, options)
        tls = {"ssl_certfile": certificate, "ssl_keyfile": key} if certificate else {}
        server = Server(configured(app, **tls))
        click.echo(_address(listening, tls=bool(certificate)))
        server.until_signalled(listening, model, scorings)
    return 0


def _on_missing(given: str) -> str | float:
    if given == "error":
        return given
    try:
        return float(given)
    except ValueError:
        raise ConfigError(f"--on-missing {given}: expected error, or a number") from None


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises :class:`lrf.errors.ConfigError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: can't listen there: {error.strerror or error}") from None
    return listening


def _address(listening: socket.socket, *, tls: bool) -> str:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"
