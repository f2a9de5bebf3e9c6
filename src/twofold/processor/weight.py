"""A weight processor: a service, served to any number of connections.

    serve_forever ── accept ─▶ one thread a connection: handshake, then calls and questions until it closes
                                      └── one lock: the service works for one of them at a time

It keeps nothing of a call once it is answered (R2): the rows belong to the connection.
"""

import contextlib
import threading
from typing import NamedTuple

from twofold.errors import (
    DeadlinePassed,
    FrameError,
    InternalError,
    LinkError,
    ProcessorLost,
    Refused,
    TwofoldError,
)
from twofold.link.base import (
    HANDSHAKE_SECONDS,
    Call,
    Channel,
    Listener,
    Service,
    check_call,
    welcome_of,
)
from twofold.log import logger
from twofold.units import Nanoseconds, Seconds
from twofold.wire.frame import digest_prefix
from twofold.wire.handshake import layout_of, refusal
from twofold.wire.message import (
    AskTokenizer,
    Failed,
    Hello,
    Message,
    Ping,
    Pong,
    TokenizerReply,
    failed,
)

CONNECTIONS = 64


class Conversation(NamedTuple):
    """A connection being served."""

    thread: threading.Thread
    channel: Channel


class WeightProcessor:
    """Serves `service` at `listener`, which it owns, until `stop`."""

    def __init__(
        self,
        service: Service,
        listener: Listener,
        *,
        connections: int = CONNECTIONS,
        handshake: Seconds = HANDSHAKE_SECONDS,
        title: str = "weight processor",
    ) -> None:
        self._service = service
        self._listener = listener
        self._connections = connections
        self._handshake = handshake
        self._held = frozenset(service.held)
        self._welcome = welcome_of(service, title)
        self._layout = layout_of(self._welcome)
        self._digest = digest_prefix(service.manifest)
        self._turn = threading.Lock()
        self._stopping = False
        self._logger = logger("processor")

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self._listener.url

    def serve_forever(self) -> None:
        """Serve until `stop`; then every connection is closed and every thread has ended."""
        conversations: list[Conversation] = []
        try:
            while not self._stopping:
                channel = self._listener.accept(None)
                conversations = [c for c in conversations if c.thread.is_alive()]
                if channel is not None:
                    conversations += self._begin(channel, len(conversations))
        finally:
            self.stop()
            for conversation in conversations:
                conversation.channel.interrupt()
            for conversation in conversations:
                conversation.thread.join()
            self._listener.close()

    def stop(self) -> None:
        """Make `serve_forever` return, after the work in hand; from any thread or a signal handler."""
        self._stopping = True
        self._listener.interrupt()

    def _begin(self, channel: Channel, others: int) -> list[Conversation]:
        """A thread that serves `channel`; none if there are too many, and then the client is told."""
        why = f"all {self._connections} connections of the weight processor are taken"
        if others < self._connections:
            thread = threading.Thread(target=self._converse, args=(channel,), name=f"serve {channel.peer}")
            try:
                thread.start()
            except RuntimeError:
                why = "the weight processor's host has no thread left"
            else:
                return [Conversation(thread, channel)]
        with contextlib.suppress(LinkError):
            channel.send(failed(Refused(f"{why}; close one or start another processor")))
        channel.close()
        return []

    def _converse(self, channel: Channel) -> None:
        """The life of one connection; the thread of it runs this."""
        try:
            self._greet(channel)
            while True:
                self._answer(channel, channel.receive(None))
        except ProcessorLost as error:
            self._logger.debug("%s", error)
        except TwofoldError as error:
            self._logger.warning("closing the link to a %s: %s", channel.peer, error)
            with contextlib.suppress(LinkError):
                channel.send(failed(error))
        finally:
            channel.close()

    def _greet(self, channel: Channel) -> None:
        hello = channel.receive(self._handshake)
        if not isinstance(hello, Hello):
            raise FrameError(f"the handshake begins with Hello, not with {type(hello).__name__}")
        why = refusal(hello, self._welcome)
        if why:
            raise Refused(why)
        if hello.shared_memory != self._listener.shared_memory:
            raise Refused(f"{self.url} {'needs' if self._listener.shared_memory else 'has no'} shared memory")
        channel.welcome(self._welcome, self._layout, self._digest)

    def _answer(self, channel: Channel, request: Call | Message) -> None:
        if isinstance(request, Call):
            self._work(channel, request)
        else:
            channel.send(self._reply_to(request))

    def _work(self, channel: Channel, call: Call) -> None:
        try:
            worked = self._in_turn(channel, call)
        except TwofoldError as error:
            channel.send(failed(error))
        except Exception as error:
            self._logger.exception("segment %d of %d rows failed", call.segment, call.count)
            channel.send(failed(_bug(error)))
        else:
            channel.reply(worked)

    def _in_turn(self, channel: Channel, call: Call) -> Nanoseconds:
        check_call(call.segment, call.count, self._layout, self._held, "this weight processor")
        self._take_turn(call.deadline)
        try:
            return self._service.work(call.segment, channel.rows, call.count)
        finally:
            self._turn.release()

    def _take_turn(self, deadline: Seconds) -> None:
        """Hold the service; DeadlinePassed if others hold it for longer than `deadline`."""
        if not self._turn.acquire(timeout=deadline):
            raise DeadlinePassed("the weight processor was busy with other calls until the deadline of this one")
        if self._stopping:
            self._turn.release()
            raise ProcessorLost("the weight processor is stopping")

    def _reply_to(self, message: Message) -> Message:
        match message:
            case Ping():
                return Pong()
            case AskTokenizer():
                return self._tokenizer()
            case _:
                raise FrameError(f"a {type(message).__name__} is not a question")

    def _tokenizer(self) -> TokenizerReply | Failed:
        try:
            self._take_turn(self._handshake)
            try:
                return TokenizerReply(self._service.tokenizer())
            finally:
                self._turn.release()
        except TwofoldError as error:
            return failed(error)


def _bug(error: Exception) -> InternalError:
    return InternalError(f"the weight processor failed with {type(error).__name__}: {error}; please report this")
