"""`twofold run`: one prompt, one answer."""

import importlib
import os
import sys
from typing import Annotated

import typer

from twofold.cli import options, show
from twofold.config import read_settings
from twofold.engine.assemble import Ready, open_engine, remote
from twofold.engine.engine import Session
from twofold.engine.generate import Generation, Timings
from twofold.engine.limits import Limits
from twofold.engine.prompt import check_text
from twofold.engine.sampling import Sampling
from twofold.errors import ConfigurationError, RequestError
from twofold.store.catalogue import BY_NAME, DEFAULT_MODEL
from twofold.units import MIB, bytes_text

PROMPT_BYTES = 4 * MIB  # of standard input: more than any context holds, so that no endless input is read


def run(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", show_default=False, help="A known name or the path of a .gguf file."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="[PROMPT]", show_default=False, help="The text; standard input if left out."),
    ] = None,
    split: options.Split = False,
    weights: options.Weights = None,
    map_file: options.Map = None,
    wait: options.Wait = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it is, without the model's chat template.")
    ] = False,
    system: Annotated[str | None, typer.Option(help="A system message for the chat template.")] = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    min_p: options.MinP = 0.0,
    seed: options.Seed = 0,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    presence_penalty: options.PresencePenalty = 0.0,
    frequency_penalty: options.FrequencyPenalty = 0.0,
    json_schema: options.Schema = None,
    grammar: options.Grammar = None,
    regex: options.RegularExpression = None,
    max_tokens: options.MaxTokens = 512,
    min_tokens: options.MinTokens = 0,
    stop: options.Stop = None,
    ignore_eos: options.IgnoreEnd = False,
    threads: options.Threads = None,
    context: options.Context = None,
    packed_cache: options.PackedCache = None,
    keep: options.Keep = None,
    json: options.Json = False,
    logprobs: options.LogProbs = None,
) -> None:
    """Answer one prompt. The default model is fetched on first use.

    A single argument with a space in it is the prompt for the default model; with --weights or --map, so is any that
    does not name a model.
    """
    settings = options.placed(
        read_settings(
            threads=threads, context=context, weights=weights, map=map_file, wait=wait, packed_cache=packed_cache
        ),
        split=split,
    )
    sampling = Sampling(temperature, top_k, top_p, min_p, seed, repetition_penalty, presence_penalty, frequency_penalty)
    limits = Limits(max_tokens, tuple(stop or ()), ignore_eos, min_tokens)
    constraint = options.constraint(json_schema, grammar, regex)
    if logprobs is not None and not json:
        raise ConfigurationError("--logprobs are told with --json; give both")
    named, text = chosen(model, prompt, remote=remote(settings))
    with (
        show.ShownProgress(quiet=json) as progress,
        open_engine(named, settings, split=split, progress=progress) as ready,
    ):
        progress.finish()

        def answer(session: Session, ids: list[int]) -> Generation:
            generation = Generation(
                ready.engine,
                session,
                ready.tokenizer,
                sampling,
                limits,
                logprobs=logprobs,
                constraint=constraint,
                hashed=json,
            )
            if json:
                _print_json(ready, generation, ids)
            else:
                _stream(generation, ids)
            return generation

        if keep:
            go_on = importlib.import_module("twofold.cli.keeping").go_on
            go_on(ready, settings, keep, text, system=system, raw=raw, answer=answer)
        else:
            answer(ready.engine.open(), prompt_tokens(ready, text, system=system, raw=raw))


def chosen(model: str | None, prompt: str | None, *, remote: bool) -> tuple[str | None, str]:
    """(model, or None for what a weight processor holds; prompt) from two arguments that may be missing."""
    if prompt is None and model is not None and not _names_model(model) and (remote or any(map(str.isspace, model))):
        model, prompt = None, model
    if prompt is None:
        prompt = "" if sys.stdin is None or sys.stdin.isatty() else _read_stdin()
    if not prompt.strip():
        raise RequestError("the prompt is empty; give some text: twofold run MODEL 'your text', or pipe it in")
    return model or (None if remote else DEFAULT_MODEL), prompt


def _names_model(text: str) -> bool:
    """Whether a single argument is meant as a model: a known name, or anything that looks like a file."""
    return text in BY_NAME or text.endswith(".gguf") or os.sep in text


def _read_stdin() -> str:
    data = sys.stdin.buffer.read(PROMPT_BYTES + 1)
    if len(data) > PROMPT_BYTES:
        raise RequestError(
            f"standard input is longer than {bytes_text(PROMPT_BYTES)}, which no context holds; shorten it"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"standard input is not UTF-8 text ({error.reason} at byte {error.start})") from error


def prompt_tokens(ready: Ready, text: str, *, system: str | None, raw: bool) -> list[int]:
    """The prompt as tokens: through the chat template if the model has one and `raw` is not asked for."""
    check_length(ready, text)
    if raw or ready.tokenizer.data.chat_template is None:
        if system is not None:
            raise RequestError("a system message needs a chat template; this model has none, or --raw turns it off")
        return ready.tokenizer.encode(text)
    first_turn = importlib.import_module("twofold.cli.first_turn").first_turn
    return ready.tokenizer.encode(first_turn(ready.tokenizer.data, text, system), add_bos=False)


def check_length(ready: Ready, text: str) -> None:
    """RequestError for text that cannot fit the context even if every token were the longest there is.

    So much text takes the tokenizer seconds and hundreds of megabytes.
    """
    most = min(ready.engine.manifest.context_length, ready.engine.context.positions)
    check_text(ready.tokenizer, text, most)


def _stream(generation: Generation, ids: list[int]) -> None:
    try:
        for piece in generation.run(ids):
            show.write(piece)
    finally:
        if generation.token_ids:
            show.write("\n")
            show.note(summary(generation.timings))


def summary(timings: Timings) -> str:
    """One line: tokens, rates, and where the time went."""
    spent = timings.prefill_seconds + timings.decode_seconds
    parts = {
        "weights": timings.weights_seconds,
        "context": timings.context_seconds,
        "link": timings.link_seconds,
        "sampling": timings.sampling_seconds,
    }
    shares = ", ".join(f"{name} {100 * seconds / spent if spent else 0:.0f} %" for name, seconds in parts.items())
    rate = f", {timings.decode_rate:.1f} tok/s" if timings.generated_tokens > 1 else ""
    return (
        f"{timings.generated_tokens} token{'' if timings.generated_tokens == 1 else 's'}{rate}; "
        f"prompt {timings.prompt_tokens} tokens, {timings.prefill_rate:.1f} tok/s; time: {shares}"
    )


def _print_json(ready: Ready, generation: Generation, ids: list[int]) -> None:
    for _ in generation.run(ids):
        pass
    manifest = ready.engine.manifest
    show.write_json(
        {
            "model": {"name": manifest.name, "digest": manifest.digest, "numerics": manifest.numerics},
            "text": generation.text,
            "token_ids": generation.token_ids,
            "finish_reason": generation.finish_reason,
            "logits_digest": generation.logits_digest,
            "prompt_token_ids": ids,
            "timings": generation.timings,
        }
        | ({} if generation.logprobs is None else {"logprobs": generation.chosen})
    )
