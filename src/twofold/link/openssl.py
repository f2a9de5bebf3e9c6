"""TLS whose bytes native code moves (`native/tls.c`): sessions of OpenSSL itself, over a socket.

Its functions are those of the library that Python's ssl module has loaded: the same code, under the same settings of
the system, and no other. Where that cannot be called (`openssl` is None: it is older than 3, or a part of Python
itself), `ssl` makes the same TLS, more slowly (`link/tls.py`).
"""

import _ssl
import ctypes
import errno
import functools
import os
import socket
import ssl
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twofold.address import address_of
from twofold.errors import DeviceError
from twofold.link.certificate import unfit
from twofold.link.flow import Parts, ended
from twofold.native import library

_OLDEST = (3,)  # the first with SSL_OP_CLEANSE_PLAINTEXT
_CALLED_NATIVELY = (
    "SSL_read_ex",
    "SSL_write_ex",
    "SSL_do_handshake",
    "SSL_get_error",
    "ERR_clear_error",
    "ERR_peek_last_error",
)
_SETS_MODE, _CLEARS_MODE, _SETS_OLDEST, _SETS_NEWEST = 33, 78, 123, 124  # SSL_CTRL_MODE and its like
_TLS_1_3, _PEM = 0x0304, 1
_PARTIAL_WRITE, _MOVING_BUFFER, _AUTO_RETRY = 1, 2, 4
_CLEANSE_PLAINTEXT, _IGNORE_UNEXPECTED_END = 1 << 1, 1 << 7  # a frame says how long it is: a link cut short is seen


class _OpenSsl(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in _CALLED_NATIVELY)


class _Tls(ctypes.Structure):
    _fields_ = (("openssl", ctypes.c_void_p), ("ssl", ctypes.c_void_p), ("why", ctypes.c_uint64))


class OpenSsl:
    """The functions of the library, with their signatures; AttributeError if it lacks one."""

    def __init__(self, found: Any) -> None:
        pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        native = {name: ctypes.cast(getattr(found, name), pointer).value for name in _CALLED_NATIVELY}
        self.native = _OpenSsl(**native)
        self.server = _typed(found.TLS_server_method, pointer)
        self.client = _typed(found.TLS_client_method, pointer)
        self.new_context = _typed(found.SSL_CTX_new, pointer, pointer)
        self.free_context = _typed(found.SSL_CTX_free, None, pointer)
        self.control = _typed(found.SSL_CTX_ctrl, ctypes.c_long, pointer, number, ctypes.c_long, pointer)
        self.set_options = _typed(found.SSL_CTX_set_options, ctypes.c_uint64, pointer, ctypes.c_uint64)
        self.set_tickets = _typed(found.SSL_CTX_set_num_tickets, number, pointer, ctypes.c_size_t)
        self.use_chain = _typed(found.SSL_CTX_use_certificate_chain_file, number, pointer, text)
        self.use_key = _typed(found.SSL_CTX_use_PrivateKey_file, number, pointer, text, number)
        self.check_key = _typed(found.SSL_CTX_check_private_key, number, pointer)
        self.offer = _typed(found.SSL_CTX_set_alpn_protos, number, pointer, text, ctypes.c_uint)
        self.set_choice = _typed(found.SSL_CTX_set_alpn_select_cb, None, pointer, pointer, text)
        self.new = _typed(found.SSL_new, pointer, pointer)
        self.free = _typed(found.SSL_free, None, pointer)
        self.set_descriptor = _typed(found.SSL_set_fd, number, pointer, number)
        self.accept = _typed(found.SSL_set_accept_state, None, pointer)
        self.connect = _typed(found.SSL_set_connect_state, None, pointer)
        self.pending = _typed(found.SSL_pending, number, pointer)
        self.chosen = _typed(found.SSL_get0_alpn_selected, None, pointer, pointer, pointer)
        self.certificate = _typed(found.SSL_get1_peer_certificate, pointer, pointer)
        self.to_der = _typed(found.i2d_X509, number, pointer, pointer)
        self.free_certificate = _typed(found.X509_free, None, pointer)
        self.last_error = _typed(found.ERR_peek_last_error, ctypes.c_ulong)
        self.forget_errors = _typed(found.ERR_clear_error, None)
        self._reason = _typed(found.ERR_reason_error_string, text, ctypes.c_ulong)

    def reason(self, error: int) -> str:
        """What an error of OpenSSL says."""
        return (self._reason(error) or b"tls failed").decode()


@functools.cache
def openssl() -> OpenSsl | None:
    """OpenSSL as Python has loaded it; None if it cannot be called from here."""
    path = getattr(_ssl, "__file__", None)
    if path is None or ssl.OPENSSL_VERSION_INFO < _OLDEST:
        return None
    try:
        return OpenSsl(ctypes.CDLL(path))  # a symbol is looked for in what it is linked with too
    except (OSError, AttributeError):
        return None


class Context:
    """What the sessions of one side have in common: TLS 1.3 alone, and the one protocol that it speaks."""

    def __init__(self, functions: OpenSsl, alpn: str, *, identity: Path | None = None) -> None:
        """With an `identity` the side that is connected to (`certificate.serving_context`); ConfigurationError."""
        self.functions, self.serving = functions, identity is not None
        self.address = functions.new_context(functions.server() if self.serving else functions.client())
        if not self.address:
            raise DeviceError("no memory is left for TLS; close other programs")
        weakref.finalize(self, functions.free_context, self.address).atexit = False
        for what, value in (
            (_SETS_OLDEST, _TLS_1_3),
            (_SETS_NEWEST, _TLS_1_3),
            (_SETS_MODE, _PARTIAL_WRITE | _MOVING_BUFFER),
            (_CLEARS_MODE, _AUTO_RETRY),  # a peer that says much and no byte of ours does not keep others waiting
        ):
            functions.control(self.address, what, value, None)
        functions.set_options(self.address, _CLEANSE_PLAINTEXT | _IGNORE_UNEXPECTED_END)
        self._alpn = alpn.encode()
        if identity is None:
            functions.offer(self.address, bytes([len(self._alpn)]) + self._alpn, len(self._alpn) + 1)
        else:
            functions.set_tickets(self.address, 0)  # as in `certificate.serving_context`
            choose = ctypes.cast(library().tf_tls_choose, ctypes.c_void_p)
            functions.set_choice(self.address, choose, self._alpn)
            self._show(identity)

    def _show(self, identity: Path) -> None:
        """Show the certificate of this host, whose key is there too."""
        path = os.fsencode(identity)
        self.functions.forget_errors()
        if not (
            self.functions.use_chain(self.address, path)
            and self.functions.use_key(self.address, path, _PEM)
            and self.functions.check_key(self.address)
        ):
            why = self.functions.reason(self.functions.last_error())
            self.functions.forget_errors()
            raise unfit(identity, why)


class Session:
    """A `TlsFlow` over a socket, which never blocks and stays the caller's. A port can be given its `address`."""

    def __init__(self, context: Context, sock: socket.socket) -> None:
        self._context, self._openssl = context, context.functions
        self._ssl = self._openssl.new(context.address)
        if not self._ssl:
            raise DeviceError("no memory is left for TLS; close other programs")
        weakref.finalize(self, self._openssl.free, self._ssl).atexit = False
        self._openssl.set_descriptor(self._ssl, sock.fileno())
        (self._openssl.accept if context.serving else self._openssl.connect)(self._ssl)
        self._functions = _functions()
        self._raw = _Tls(ctypes.addressof(self._openssl.native), self._ssl)
        self.address = ctypes.addressof(self._raw)

    def shake(self) -> bool:
        """Go on with the handshake of the calling side (`TlsFlow.shake`)."""
        try:
            self._done(self._functions.tf_tls_shake(self.address))
        except BlockingIOError:
            return False
        return True

    def send(self, parts: Parts) -> int:
        """As `Flow.send`."""
        return self._done(self._functions.tf_tls_send(self.address, address_of(parts[0]), len(parts[0])))

    def receive(self, view: memoryview) -> int:
        """As `Flow.receive`."""
        return self._done(self._functions.tf_tls_receive(self.address, address_of(view), len(view)))

    def pending(self) -> bool:
        """As `Flow.pending`: a part of a record was taken, and the rest was not."""
        return bool(self._openssl.pending(self._ssl))

    def close(self) -> None:
        """As `Flow.close`."""

    @property
    def why(self) -> str:
        """What broke TLS; empty if nothing did."""
        return self._openssl.reason(self._raw.why) if self._raw.why else ""

    def certificate(self) -> bytes:
        """What the other side has shown, DER; empty if nothing."""
        shown = self._openssl.certificate(self._ssl)
        if not shown:
            return b""
        try:
            found = ctypes.create_string_buffer(self._openssl.to_der(shown, None))
            self._openssl.to_der(shown, ctypes.byref(ctypes.c_void_p(ctypes.addressof(found))))
            return found.raw
        finally:
            self._openssl.free_certificate(shown)

    def protocol(self) -> str | None:
        """The ALPN protocol that both sides speak."""
        name, length = ctypes.c_void_p(), ctypes.c_uint()
        self._openssl.chosen(self._ssl, ctypes.byref(name), ctypes.byref(length))
        return ctypes.string_at(name.value, length.value).decode() if name.value else None

    def _done(self, count: int) -> int:
        """`count` of a native function, or what went wrong as OSError."""
        if count > 0:
            return count
        if count == 0:
            raise ended()
        raise OSError(-count, self.why if -count == errno.EPROTO else os.strerror(-count))


def _typed(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = result, arguments
    return function


@functools.cache
def _functions() -> Any:
    functions = library()
    pointer, size = ctypes.c_void_p, ctypes.c_uint64
    signatures: Sequence[tuple[Any, Sequence[Any]]] = (
        (functions.tf_tls_shake, (pointer,)),
        (functions.tf_tls_send, (pointer, pointer, size)),
        (functions.tf_tls_receive, (pointer, pointer, size)),
    )
    for function, arguments in signatures:
        _typed(function, ctypes.c_int64, *arguments)
    return functions
