"""Traces: a span a request with the stages of its answers in it, and not a word of what was said."""

import http.server
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from fake_serving import TEXT
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from served import HELLO, Served

from twofold.cli import serve
from twofold.config import Settings
from twofold.errors import ConfigurationError, DeviceError
from twofold.server.tracing import STAGES, Tracing, to_collector

PATH = "/v1/chat/completions"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def traced(served: Served) -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter))
    for record in served.records:
        tracing(record)
    tracing.close()
    return exporter.get_finished_spans()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_span_with_the_stages_of_its_answers_in_it(served: Served, stream: bool) -> None:
    answer = served.post(PATH, {"messages": HELLO, "stream": stream, "n": 2}, headers={"x-request-id": "abc"})
    assert answer.status_code == 200
    spans = traced(served)
    (root,) = [span for span in spans if span.name == "llm_request"]
    inside = [span for span in spans if span is not root]
    assert [span.name for span in inside] == [*STAGES, *STAGES]
    for span in inside:
        assert span.parent is not None
        assert root.context is not None
        assert span.parent.span_id == root.context.span_id
        assert root.start_time <= span.start_time <= span.end_time <= root.end_time  # type: ignore[operator]
    told = dict(root.attributes or {})
    usage = served.records[-1].usage
    assert told["gen_ai.usage.prompt_tokens"] == usage.prompt_tokens
    assert told["gen_ai.usage.completion_tokens"] == usage.generated_tokens
    assert (told["gen_ai.request.id"], told["http.route"], told["gen_ai.request.n"]) == ("abc", PATH, 2)
    assert 0 <= told["gen_ai.latency.time_to_first_token"] <= told["gen_ai.latency.e2e"]  # type: ignore[operator]


def test_a_span_goes_on_with_the_trace_of_the_client(served: Served) -> None:
    served.post(PATH, {"messages": HELLO}, headers={"traceparent": PARENT})
    served.post(PATH, {"messages": HELLO}, headers={"traceparent": "nonsense"})
    first, second = [span for span in traced(served) if span.name == "llm_request"]
    assert first.parent is not None
    assert f"00-{first.parent.trace_id:032x}-{first.parent.span_id:016x}-01" == PARENT
    assert second.parent is None


def test_what_asks_for_no_answer_leaves_no_span(served: Served) -> None:
    served.get("/health")
    served.post("/tokenize", {"prompt": "hello"})
    served.post(PATH, {"messages": []})
    assert traced(served) == ()


def test_no_text_is_in_a_trace(served: Served) -> None:
    body = {"messages": [{"role": "user", "content": "a most secret question"}], "user": "somebody"}
    served.post(PATH, body)
    written = " ".join(span.to_json() for span in traced(served))
    assert "llm_request" in written
    assert not [word for word in ("secret", TEXT, "somebody") if word in written]


def test_an_error_of_the_server_is_an_error_in_the_trace(served: Served) -> None:
    served.serving.failing = DeviceError("no memory")
    assert served.post(PATH, {"messages": HELLO}).status_code == 500
    (root,) = [span for span in traced(served) if span.name == "llm_request"]
    assert not root.status.is_ok


class Collector(http.server.BaseHTTPRequestHandler):
    """Notes what is sent to it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append(body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


def test_a_collector_is_sent_the_spans_at_the_latest_at_the_end(served: Served) -> None:
    served.post(PATH, {"messages": HELLO})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.bodies = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracing = to_collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
        tracing(served.records[-1])
        tracing.close()
        server.shutdown()
    sent = [ExportTraceServiceRequest.FromString(body) for body in server.bodies]  # type: ignore[attr-defined]
    (scope,) = [scope for request in sent for resource in request.resource_spans for scope in resource.scope_spans]
    assert sorted(span.name for span in scope.spans) == sorted(["llm_request", *STAGES])


def test_without_the_extra_the_flag_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name="opentelemetry")

    monkeypatch.setattr(serve.importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"pip install 'twofold\[otel\]'"):
        serve._noted(Settings(otlp_traces_endpoint="http://localhost:4318/v1/traces"))


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="otlp_traces_endpoint is 'localhost:4317'"):
        serve._noted(Settings(otlp_traces_endpoint="localhost:4317"))
