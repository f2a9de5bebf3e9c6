"""Traces of requests for OpenTelemetry: a span a request, and in it what each answer took. No text of it.

    llm_request ─┬─ queue     from arrival to the first step
                 ├─ prefill   to the first token
                 └─ decode    to the last

Attributes have the names that vLLM gives them. A `traceparent` header (W3C Trace Context) makes the span a child. Only
`--otlp-traces-endpoint` imports this module, as it needs packages that Twofold does without.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from twofold import __version__
from twofold.engine.request import Usage
from twofold.server.record import Record

EXPORT_SECONDS = 5  # that a collector may take
STAGES = ("queue", "prefill", "decode")


class Tracing:
    """Makes spans of records; give it to whoever notes requests. Close it."""

    def __init__(self, processor: SpanProcessor) -> None:
        """`processor` takes the spans."""
        resource = Resource({SERVICE_NAME: "twofold", SERVICE_VERSION: __version__}).merge(Resource.create())
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("twofold")
        self._propagator = TraceContextTextMapPropagator()

    def __call__(self, record: Record) -> None:
        """A request is over; one that asked for no answer leaves no span."""
        if not record.answers:
            return
        parent = self._propagator.extract({} if record.traceparent is None else {"traceparent": record.traceparent})
        span = self._tracer.start_span(
            "llm_request", parent, SpanKind.SERVER, _attributes(record), start_time=record.wall_ns(record.started)
        )
        inside = set_span_in_context(span, Context())
        for stage in _stages(record.answers):
            begun = record.wall_ns(stage.begun)
            self._tracer.start_span(stage.name, inside, start_time=begun).end(record.wall_ns(stage.ended))
        _conclude(span, record)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def to_collector(endpoint: str) -> Tracing:
    """Sends spans to `endpoint` (OTLP over HTTP, such as http://localhost:4318/v1/traces), in a thread of its own."""
    return Tracing(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)))


class Stage(NamedTuple):
    """A part of an answer's way, in seconds of the record's clock."""

    name: str
    begun: float
    ended: float


def _stages(answers: list[Usage]) -> Iterator[Stage]:
    for usage in answers:
        moments = usage.moments
        for name, (begun, ended) in zip(
            STAGES, pairwise((moments.arrived, moments.begun, moments.first, moments.ended)), strict=True
        ):
            if begun is not None and ended is not None:
                yield Stage(name, begun, ended)


def _attributes(record: Record) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {
        "gen_ai.request.id": record.id,
        "gen_ai.request.n": len(record.answers),
        "gen_ai.usage.prompt_tokens": record.usage.prompt_tokens,
        "gen_ai.usage.completion_tokens": record.usage.generated_tokens,
        "http.request.method": record.method,
        "http.route": record.route,
        "http.response.status_code": record.status,
        "gen_ai.latency.e2e": record.ended - record.started,
    }
    first = record.answers[0].moments
    if first.arrived is not None and first.begun is not None:
        found["gen_ai.latency.time_in_queue"] = first.begun - first.arrived
    if first.arrived is not None and first.first is not None:
        found["gen_ai.latency.time_to_first_token"] = first.first - first.arrived
    return found


def _conclude(span: Span, record: Record) -> None:
    if record.status >= 500:
        span.set_status(Status(StatusCode.ERROR))
    span.end(record.wall_ns(record.ended))
