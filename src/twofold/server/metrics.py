"""`/metrics` for Prometheus: vLLM's names where the meaning is the same, so that boards made for it work; ours beside.

Source of the names: vLLM's documentation, "Production Metrics".
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping

from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from twofold.engine.serving_status import Histogram, ServingStatus
from twofold.server.offer import Offer

router = APIRouter()
Answered = Mapping[tuple[str, str, int], int]  # how many requests, by method, route and status


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Figures for Prometheus; while the model loads, those of HTTP alone."""
    offer: Offer = request.app.state.offer
    status = offer.readiness.served.status() if offer.readiness.served else None
    tasks = len(asyncio.all_tasks())
    written = exposition(status, Counter(request.app.state.front.counts), offer.names[0], tasks)
    return Response(written, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def exposition(status: ServingStatus | None, answered: Answered, model: str, tasks: int) -> bytes:
    """All figures in the text format, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(status, answered, model, tasks))
    return generate_latest(registry)


class Figures:
    """The figures of one moment, as Prometheus's client library collects them."""

    def __init__(self, status: ServingStatus | None, answered: Answered, model: str, tasks: int) -> None:
        self._status, self._answered, self._model, self._tasks = status, answered, model, tasks

    def describe(self) -> list[Metric]:
        """Nothing is known before it is collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        requests = CounterMetricFamily(
            "twofold:http_requests", "Requests answered.", labels=["method", "route", "status"]
        )
        for (method, route, status), count in sorted(self._answered.items()):
            requests.add_metric([method, route, str(status)], count)
        yield requests
        yield self._gauge("twofold:tasks", "Tasks of the server's event loop.", self._tasks)
        if self._status is not None:
            yield from self._now(self._status)
            yield from self._since(self._status)
            yield from self._times(self._status)
            yield from self._sizes(self._status)

    def _now(self, status: ServingStatus) -> Iterator[Metric]:
        yield self._gauge("vllm:num_requests_running", "Answers that are computed.", status.running)
        yield self._gauge("vllm:num_requests_waiting", "Answers that wait.", status.waiting)
        yield self._gauge("vllm:num_requests_swapped", "Of those, whose context is outside the pool.", status.swapped)
        oldest = status.oldest_waiting_seconds
        yield self._gauge("twofold:oldest_waiting_seconds", "Since the one that waits and came first arrived.", oldest)
        used = status.pages_used / status.pages if status.pages else 0.0
        yield self._gauge("vllm:kv_cache_usage_perc", "Share of context memory in use, 0 to 1.", used)
        yield self._gauge("twofold:context_pages", "Pages of context memory.", status.pages)
        yield self._gauge(
            "twofold:context_pages_cached", "Of those, held by known prefixes alone.", status.pages_cached
        )

    def _since(self, status: ServingStatus) -> Iterator[Metric]:
        yield self._counter("vllm:prompt_tokens", "Tokens of prompts.", status.prompt_tokens)
        yield self._counter("vllm:generation_tokens", "Tokens of answers.", status.generated_tokens)
        yield self._counter(
            "vllm:prefix_cache_queries", "Tokens looked for among known prefixes.", status.prompt_tokens
        )
        yield self._counter("vllm:prefix_cache_hits", "Tokens found there, and not computed.", status.cached_tokens)
        yield self._counter("vllm:num_preemptions", "Answers that had to make room.", status.preemptions)
        yield self._counter("twofold:requests_refused", "Requests answered with 429.", status.refused)
        yield self._counter("twofold:steps", "Steps of the engine.", status.steps)
        yield self._counter("twofold:rows", "Rows of those steps.", status.rows)
        ended = CounterMetricFamily(
            "vllm:request_success", "Answers that ended, by how.", labels=["model_name", "finished_reason"]
        )
        for reason, count in sorted(status.finished.items()):
            ended.add_metric([self._model, reason], count)
        yield ended

    def _times(self, status: ServingStatus) -> Iterator[Metric]:
        times = status.times
        yield self._histogram("vllm:time_to_first_token_seconds", "From arrival to the first token.", times.first_token)
        for name in ("inter_token_latency", "time_per_output_token"):  # the second is its older name
            yield self._histogram(f"vllm:{name}_seconds", "Between two tokens.", times.token)
        yield self._histogram("vllm:request_queue_time_seconds", "From arrival to the first step.", times.queue)
        yield self._histogram("vllm:request_prefill_time_seconds", "From that to the first token.", times.prefill)
        yield self._histogram("vllm:request_decode_time_seconds", "From that to the end.", times.decode)
        yield self._histogram("vllm:e2e_request_latency_seconds", "From arrival to the end.", times.answer)

    def _sizes(self, status: ServingStatus) -> Iterator[Metric]:
        sizes = status.sizes
        yield self._histogram("vllm:request_prompt_tokens", "Tokens of a prompt.", sizes.prompt)
        yield self._histogram("vllm:request_generation_tokens", "Tokens of an answer.", sizes.generated)
        yield self._histogram("vllm:request_max_num_generation_tokens", "Tokens that it might have.", sizes.allowed)

    def _gauge(self, name: str, meaning: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, meaning, labels=["model_name"])
        family.add_metric([self._model], value)
        return family

    def _counter(self, name: str, meaning: str, value: float) -> Metric:
        family = CounterMetricFamily(name, meaning, labels=["model_name"])
        family.add_metric([self._model], value)
        return family

    def _histogram(self, name: str, meaning: str, histogram: Histogram) -> Metric:
        counts = list(histogram.counts)
        limits = [*map("{:g}".format, histogram.limits), "+Inf"]
        buckets = [(limit, float(sum(counts[: place + 1]))) for place, limit in enumerate(limits)]
        family = HistogramMetricFamily(name, meaning, labels=["model_name"])
        family.add_metric([self._model], buckets, histogram.sum)
        return family
