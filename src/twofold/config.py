"""Settings: frozen, read once. Defaults ← file ← environment ← flags; what is not known is refused by name.

    setting        environment              file (config.toml)   allowed
    threads        TWOFOLD_THREADS          threads              1 to 256; default: physical cores
    vector_level   TWOFOLD_VECTOR_LEVEL     vector_level         a level that `twofold doctor` lists
    context        TWOFOLD_CONTEXT          context              positions of context memory, 64 and up
    weights        TWOFOLD_WEIGHTS          weights              URL,URL,… of running weight processors
    map            TWOFOLD_MAP              map                  file that lists them (twofold map)
    wait           TWOFOLD_WAIT             wait                 seconds to wait for one to come back, 0 to 86400
    packed_cache   TWOFOLD_PACKED_CACHE     packed_cache         true or false: keep packed weights in a file
    contexts_mib   TWOFOLD_CONTEXTS_MIB     contexts_mib         MiB that all kept contexts may take, 1 and up
    evict_contexts TWOFOLD_EVICT_CONTEXTS   evict_contexts       true or false: the oldest make room for a new one
    passphrase     TWOFOLD_PASSPHRASE       passphrase           of encrypted context files

and of `twofold serve`:

    host           TWOFOLD_HOST             host                 address to listen at
    port           TWOFOLD_PORT             port                 0 (any) to 65535
    served_model_name  TWOFOLD_SERVED_MODEL_NAME  served_model_name  NAME,NAME,… of the model for clients
    max_model_len  TWOFOLD_MAX_MODEL_LEN    max_model_len        most tokens of prompt and answer, 2 and up
    max_num_seqs   TWOFOLD_MAX_NUM_SEQS     max_num_seqs         most answers at once, 1 to 4096
    api_key        TWOFOLD_API_KEY          api_key              KEY, or NAME KEY; several, a line each
    api_key_file   TWOFOLD_API_KEY_FILE     api_key_file         file of such lines
    drain          TWOFOLD_DRAIN            drain                seconds that answers have to end, 0 to 86400
    keep_contexts  TWOFOLD_KEEP_CONTEXTS    keep_contexts        true or false: keep contexts by name
    log_json       TWOFOLD_LOG_JSON         log_json             true or false: log lines as JSON
    otlp_traces_endpoint  TWOFOLD_OTLP_TRACES_ENDPOINT  otlp_traces_endpoint  URL that traces are sent to

In the file a setting may be written as its flag is, with - for _. The file is $XDG_CONFIG_HOME/twofold/config.toml
(~/.config without it), or what `--config` names.
"""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from twofold.errors import ConfigurationError

PREFIX = "TWOFOLD_"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be set outside a command's own arguments. None: let Twofold choose."""

    threads: int | None = None
    vector_level: str | None = None
    context: int | None = None
    weights: str | None = None
    map: str | None = None
    wait: int = 30
    packed_cache: bool = False
    contexts_mib: int = 10240
    evict_contexts: bool = False
    passphrase: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    served_model_name: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    api_key: str | None = None
    api_key_file: str | None = None
    drain: int = 30
    keep_contexts: bool = False
    log_json: bool = False
    otlp_traces_endpoint: str | None = None


NAMES = tuple(field.name for field in msgspec.structs.fields(Settings))
_SWITCHES = {"packed_cache", "evict_contexts", "keep_contexts", "log_json"}
_INTEGERS = {
    "threads": (1, 256), "context": (64, 1 << 26), "wait": (0, 86400), "contexts_mib": (1, 1 << 40),
    "port": (0, 65535), "max_model_len": (2, 1 << 26), "max_num_seqs": (1, 4096), "drain": (0, 86400),
}  # fmt: skip


def config_file(environment: Mapping[str, str]) -> Path:
    """Where the settings file lies, whether it exists or not."""
    base = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "twofold" / "config.toml"


def read_settings(
    environment: Mapping[str, str] = os.environ,
    *,
    file: Path | None = None,
    source: str = "the command line",
    **flags: Any,
) -> Settings:
    """The settings in force; `flags` are those given by whoever asks, on the command line or as `source` says (None:
    not given).

    `file` takes the place of the usual one, and must be there. Raises ConfigurationError naming the setting, where it
    came from and what is allowed.
    """
    values = _from_file(file, missing=False) if file else _from_file(config_file(environment), missing=True)
    values |= _from_environment(environment)
    values |= {name: (value, source) for name, value in flags.items() if value is not None}
    return Settings(**{name: _checked(name, value, source) for name, (value, source) in values.items()})


def check_places(settings: Settings, *, split: bool, option: str = "") -> None:
    """Raise ConfigurationError if the weights are to be in two places at once, a child process (`split`) among them.

    `option`: what stands before an option's name where `split` was asked for.
    """
    places = {"split": split, "weights": settings.weights, "map": settings.map}
    given = [option + name for name, value in places.items() if value]
    if len(given) > 1:
        raise ConfigurationError(
            f"{' and '.join(given)} name different places for the weights (arguments or settings); give one of them"
        )


def _from_file(path: Path, *, missing: bool) -> dict[str, tuple[Any, str]]:
    """What the file sets; nothing if it may be `missing` and is."""
    try:
        with path.open("rb") as file:
            values = importlib.import_module("tomllib").load(file)  # 2 ms, for those who have such a file
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, not TOML
        if missing and isinstance(error, FileNotFoundError):
            return {}
        raise ConfigurationError(f"{path} cannot be read ({error}); correct or remove it") from error
    found: dict[str, tuple[Any, str]] = {}
    for written, value in values.items():
        name = written.replace("-", "_")
        if name in found:
            raise ConfigurationError(f"{path} sets '{name}' twice, with - and with _; leave one out")
        found[name] = (value, str(path))
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    return {
        name[len(PREFIX) :].lower(): (value, f"environment variable {name}")
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }


def _checked(name: str, value: Any, source: str) -> Any:
    if name not in NAMES:
        raise ConfigurationError(f"{source} sets '{name}', which is not a setting; settings: {', '.join(NAMES)}")
    if name in _SWITCHES:
        return _switch(name, value, source)
    if name not in _INTEGERS:
        if not isinstance(value, str):
            raise ConfigurationError(f"{name} from {source} is {value!r}; text is needed")
        return value
    low, high = _INTEGERS[name]
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise ConfigurationError(f"{name} from {source} is {value!r}; a whole number from {low} to {high} is needed")
    return number


def _switch(name: str, value: Any, source: str) -> bool:
    chosen = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if chosen is None:
        raise ConfigurationError(f"{name} from {source} is {value!r}; true or false is needed")
    return chosen
