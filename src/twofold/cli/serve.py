"""`twofold serve`: a model for the clients of OpenAI and of Anthropic."""

import contextlib
import functools
import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from twofold.cli import options, show
from twofold.config import Settings, read_settings
from twofold.engine.assemble import chosen_model
from twofold.engine.opening import open_serving
from twofold.engine.serving import Serving
from twofold.errors import ConfigurationError
from twofold.log import ROOT, logger
from twofold.server.api_keys import Keys, key_file, keys_of
from twofold.server.app import application
from twofold.server.front import Log
from twofold.server.listen import listening, url_of
from twofold.server.offer import Offer
from twofold.server.process import Loading, LogLine, Progress, Server, log_requests
from twofold.server.process import serve as serve_until_told
from twofold.server.readiness import Readiness
from twofold.server.record import Record
from twofold.server.shelves import Shelves
from twofold.store.catalogue import DEFAULT_MODEL
from twofold.store.contexts import contexts_of
from twofold.units import Seconds

UNNAMED = "twofold"  # a model that is whatever weight processors hold

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        show_default=False,
        help=f"A known name or the path of a .gguf file. Default: {DEFAULT_MODEL}, or what --weights holds.",
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen at [127.0.0.1]. Any other needs an API key.")]
Port = Annotated[int | None, typer.Option(help="Port to listen at [8000]; 0: any.")]
Names = Annotated[
    str | None,
    typer.Option("--served-model-name", metavar="NAME[,NAME…]", help="Names of the model for clients."),
]
MostTokens = Annotated[
    int | None, typer.Option("--max-model-len", help="Most tokens of a prompt and its answer. Default: the model's.")
]
MostAnswers = Annotated[int | None, typer.Option("--max-num-seqs", help="Most answers that are computed at once [64].")]
KeyFile = Annotated[
    str | None,
    typer.Option("--api-key-file", metavar="FILE", help="API keys: a line NAME KEY each. Or set TWOFOLD_API_KEY."),
]
Drain = Annotated[
    int | None, typer.Option(metavar="SECONDS", help="How long answers may take to end after SIGTERM or Ctrl-C [30].")
]
KeepContexts = Annotated[
    bool | None,
    typer.Option(
        "--keep-contexts/--no-keep-contexts", help="Keep conversations by name (/v1/contexts); each key its own."
    ),
]
ContextsMib = Annotated[
    int | None,
    typer.Option(metavar="MIB", help="What all kept contexts may take, those of each key by themselves [10240]."),
]
EvictContexts = Annotated[
    bool | None,
    typer.Option(
        "--evict-contexts/--no-evict-contexts", help="Delete what was not used for longest rather than refuse."
    ),
]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Settings in TOML, in the place of the usual file. Flags win.")
]
Traces = Annotated[
    str | None,
    typer.Option(
        "--otlp-traces-endpoint", metavar="URL", help="Send traces there (OTLP over HTTP); needs twofold[otel]."
    ),
]
LogJson = Annotated[bool | None, typer.Option("--log-json/--no-log-json", help="Log lines as JSON objects.")]


def serve(
    model: Model = None,
    host: Host = None,
    port: Port = None,
    served_model_name: Names = None,
    max_model_len: MostTokens = None,
    max_num_seqs: MostAnswers = None,
    api_key_file: KeyFile = None,
    drain: Drain = None,
    keep_contexts: KeepContexts = None,
    contexts_mib: ContextsMib = None,
    evict_contexts: EvictContexts = None,
    config: Config = None,
    log_json: LogJson = None,
    otlp_traces_endpoint: Traces = None,
    split: options.Split = False,
    weights: options.Weights = None,
    map_file: options.Map = None,
    wait: options.Wait = None,
    threads: options.Threads = None,
    context: options.Context = None,
    packed_cache: options.PackedCache = None,
) -> None:
    """Serve a model over HTTP, to the clients of OpenAI and of Anthropic, until Ctrl-C."""
    settings = read_settings(
        file=config, host=host, port=port, served_model_name=served_model_name, max_model_len=max_model_len,
        max_num_seqs=max_num_seqs, api_key_file=api_key_file, drain=drain, log_json=log_json,
        otlp_traces_endpoint=otlp_traces_endpoint, weights=weights, map=map_file, wait=wait, threads=threads,
        context=context, packed_cache=packed_cache,
        keep_contexts=keep_contexts, contexts_mib=contexts_mib, evict_contexts=evict_contexts,
    )  # fmt: skip
    settings = options.placed(settings, split=split)
    named = chosen_model(model, settings)
    keys = Keys(_keys(settings))
    noted = _noted(settings)
    socket = listening(settings.host, settings.port, keyed=bool(keys))
    _log(settings)
    readiness, url = Readiness(), url_of(socket)
    shelves = Shelves(functools.partial(contexts_of, settings)) if settings.keep_contexts else None
    offer = Offer(readiness, _names(settings, named), settings.max_model_len, shelves=shelves)
    with show.ShownProgress() as shown:

        @contextlib.contextmanager
        def opening(progress: Progress) -> Iterator[Serving]:
            def both(stage: str, done: int, total: int) -> None:
                progress(stage, done, total)
                shown(stage, done, total)

            with open_serving(named, settings, split=split, progress=both) as serving:
                shown.finish()
                yield serving

        show.note(f"Loading; {url} answers 503 until then.")
        loading = Loading(opening, readiness, lambda: show.write(f"ready {url}\n"))
        with noted as log:
            app = application(offer, keys, log)
            server = Server(app, readiness, loading, Seconds(settings.drain), _draining)
            serve_until_told(server, socket, loading)


def _noted(settings: Settings) -> contextlib.AbstractContextManager[Log]:
    """What every request is noted by: the log, and traces if they are wanted."""
    log = log_requests(logger("server"))
    endpoint = settings.otlp_traces_endpoint
    if endpoint is None:
        return contextlib.nullcontext(log)
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"otlp_traces_endpoint is {endpoint!r}; a URL is needed, such as http://localhost:4318/v1/traces"
        )
    try:  # not with the others: its packages are an extra
        tracing = importlib.import_module("twofold.server.tracing")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"traces need a package that is not installed ({error.name}); pip install 'twofold[otel]'"
        ) from error
    return _traced(log, tracing.to_collector(endpoint))


@contextlib.contextmanager
def _traced(log: Log, tracing: Any) -> Iterator[Log]:
    def both(record: Record) -> None:
        log(record)
        tracing(record)

    try:
        yield both
    finally:
        tracing.close()


def _draining(in_hand: int) -> None:
    """Tell whoever sent the signal what is going on."""
    answers = "1 request is" if in_hand == 1 else f"{in_hand} requests are"
    show.note(f"{answers} in hand and may end; once more to end now.")


def _keys(settings: Settings) -> dict[str, str]:
    """API keys by name: of the file, and of the environment."""
    texts = []
    if settings.api_key_file:
        texts.append((key_file(Path(settings.api_key_file)), settings.api_key_file))
    if settings.api_key:
        texts.append((settings.api_key, "TWOFOLD_API_KEY"))
    return {name: key for text, source in texts for name, key in keys_of(text, source).items()}


def _names(settings: Settings, model: str | None) -> tuple[str, ...]:
    """What clients call the model."""
    if settings.served_model_name:
        return tuple(name.strip() for name in settings.served_model_name.split(",") if name.strip())
    return (UNNAMED if model is None else Path(model).stem,)


def _log(settings: Settings) -> None:
    """Send what is logged to standard error: our own areas, and what uvicorn warns of."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLine(json=settings.log_json))
    for name, level in ((ROOT, logging.INFO), ("uvicorn.error", logging.WARNING)):
        area = logging.getLogger(name)
        area.addHandler(handler)
        area.setLevel(level)
