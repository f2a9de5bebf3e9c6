"""Every error Twofold raises, sorted by whose fault it is.

    TwofoldError
    ├── ConfigurationError    a setting, flag or environment variable is wrong            exit 2
    ├── RequestError          this request cannot be served as it was asked               exit 2
    │   └── ContextError      a kept context cannot be used or kept; damaged, ...         exit 2
    │       ├── NoContext     none is kept under that name                                exit 2
    │       ├── ContextInUse  somebody goes on with it now                                exit 2
    │       ├── ContextTaken  something is kept under that name already                   exit 2
    │       ├── OtherModel    it is of another model, or of other numerics                exit 2
    │       └── ContextsFull  the quota has no room for it                                exit 2
    ├── Overloaded            it could be, but others wait already; not now               exit 75
    ├── ModelError            the model file is damaged, unknown or not supported         exit 3
    │   └── DownloadError     a model could not be fetched, or is not what was pinned     exit 3
    ├── LinkError             the other side of a link                                    exit 4
    │   ├── Refused           it answered the handshake with a refusal                    exit 4
    │   ├── Unreachable       nobody answers there, or the address cannot be used         exit 4
    │   ├── ProcessorLost     it went away with a call in flight                          exit 4
    │   ├── DeadlinePassed    it did not answer in time                                   exit 4
    │   └── FrameError        bytes arrived that are not a valid frame                    exit 4
    ├── DeviceError           this machine: no memory, no native library, no compiler     exit 5
    └── InternalError         our own bug                                                 exit 70

A message is one line: what is wrong, then what to do about it. `exit_code` is what the command line
returns; foreign exceptions are translated where they enter (see `cli/main.py` for the last table).
"""

TEXT_LIMIT = 1000  # characters of an error message


class TwofoldError(Exception):
    """The root. `str(error)` is one line that names the cause and the remedy."""

    exit_code = 70


class ConfigurationError(TwofoldError):
    """A setting, flag or environment variable is wrong."""

    exit_code = 2


class RequestError(TwofoldError):
    """This request cannot be served as it was asked (empty prompt, prompt too long, ...).

    `param`: the parameter that it is about, where that is known.
    """

    exit_code = 2

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ContextError(RequestError):
    """A kept context cannot be used or kept: damaged, of another model, in use by somebody else, over the quota."""


class NoContext(ContextError):  # noqa: N818
    """No context is kept under that name."""


class ContextInUse(ContextError):  # noqa: N818
    """Somebody goes on with the context now, or changes it."""


class ContextTaken(ContextError):  # noqa: N818
    """Something is kept under that name already."""


class OtherModel(ContextError):  # noqa: N818
    """The context is of another model, or was made with other numerics."""


class ContextsFull(ContextError):  # noqa: N818
    """The quota of kept contexts has no room."""


class Overloaded(TwofoldError):  # noqa: N818
    """More is asked than can be served now; after `retry_after_seconds` there should be room."""

    exit_code = 75

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ModelError(TwofoldError):
    """The model file is damaged, of an unknown kind, or uses something not supported."""

    exit_code = 3


class DownloadError(ModelError):
    """A model could not be fetched, or what was fetched is not what was pinned."""


class LinkError(TwofoldError):
    """The other side of a link, or the way to it."""

    exit_code = 4


class Refused(LinkError):  # noqa: N818
    """The other side answered the handshake with a refusal; the message says why."""


class Unreachable(LinkError):  # noqa: N818
    """Nobody answers at the address, or the address cannot be used."""


class ProcessorLost(LinkError):  # noqa: N818
    """The processor at the other end went away while it owed an answer."""


class DeadlinePassed(LinkError):  # noqa: N818
    """No answer came before the deadline of the call."""


class FrameError(LinkError):
    """Bytes arrived that are not a valid frame or message."""


class DeviceError(TwofoldError):
    """This machine lacks something: memory, the native library, a compiler."""

    exit_code = 5


class InternalError(TwofoldError):
    """A bug of ours."""


def one_line(text: str) -> str:
    """`text` as one printable line of bounded length: what came over a wire may reach a terminal."""
    line = " ".join(text[: 4 * TEXT_LIMIT].split())[:TEXT_LIMIT]
    return "".join(c if c.isprintable() else "?" for c in line)
