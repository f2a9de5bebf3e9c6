"""What Prometheus reads: vLLM's names with our figures."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from served import HELLO, Served

DISTRIBUTION = re.compile("_(bucket|sum|count)( |$)")
# What the panels of vLLM's own boards ask for (examples of its repository, 2025 and 2026).
PANELS = [
    "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total",
    "generation_tokens_total", "request_success_total", "prefix_cache_queries_total", "prefix_cache_hits_total",
    *(
        f"{name}_{of}"
        for of in ("bucket", "sum", "count")
        for name in (
            "e2e_request_latency_seconds", "time_to_first_token_seconds", "inter_token_latency_seconds",
            "time_per_output_token_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
            "request_decode_time_seconds", "request_prompt_tokens", "request_generation_tokens",
            "request_max_num_generation_tokens",
        )
    ),
]  # fmt: skip


def samples(served: Served) -> dict[str, float]:
    """The value of every sample by name and labels, `model_name` left out where it is the model's."""
    told = served.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(told.text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if (name, value) != ("model_name", "tiny")}
            found[" ".join([sample.name, *(f"{name}={value}" for name, value in sorted(labels.items()))])] = (
                sample.value
            )
    return found


def test_figures_have_the_names_that_boards_for_vllm_read(served: Served) -> None:
    told = samples(served)
    assert {name: told[name] for name in told if name.startswith("vllm:") and not DISTRIBUTION.search(name)} == {
        "vllm:num_requests_running": 1, "vllm:num_requests_waiting": 2, "vllm:num_requests_swapped": 3,
        "vllm:kv_cache_usage_perc": 0.5, "vllm:prompt_tokens_total": 60, "vllm:prefix_cache_queries_total": 60,
        "vllm:prefix_cache_hits_total": 7, "vllm:generation_tokens_total": 80, "vllm:num_preemptions_total": 11,
        "vllm:request_success_total finished_reason=stop": 12, "vllm:request_success_total finished_reason=length": 13,
    }  # fmt: skip
    assert (told["twofold:steps_total"], told["twofold:rows_total"], told["twofold:requests_refused_total"]) == (
        9,
        10,
        14,
    )
    assert told["twofold:oldest_waiting_seconds"] == 1.5
    assert told["twofold:tasks"] >= 1  # the one that asks
    assert (told["twofold:context_pages"], told["twofold:context_pages_cached"]) == (8, 5)


def test_times_are_histograms_in_seconds(served: Served) -> None:
    told = samples(served)
    for place, name in enumerate(
        (
            "request_queue_time",
            "time_to_first_token",
            "inter_token_latency",
            "e2e_request_latency",
            "request_prefill_time",
            "request_decode_time",
        ),
        1,
    ):
        assert told[f"vllm:{name}_seconds_sum"] == 0.001 * place
        assert told[f"vllm:{name}_seconds_count"] == 1
        assert told[f"vllm:{name}_seconds_bucket le=+Inf"] == 1
        assert told[f"vllm:{name}_seconds_bucket le=0.001"] == (place == 1)
        assert told[f"vllm:{name}_seconds_bucket le=0.002"] == (place <= 2)


def test_every_panel_of_a_board_for_vllm_finds_its_figure_under_the_name_of_the_model(served: Served) -> None:
    told = served.get("/metrics").text
    for name in PANELS:
        assert re.search(rf"^vllm:{name}{{[^}}]*model_name=\"tiny\"", told, re.MULTILINE), name


def test_sizes_are_histograms_in_tokens(served: Served) -> None:
    told = samples(served)
    for tokens, name in enumerate(("prompt", "generation", "max_num_generation"), 1):
        assert told[f"vllm:request_{name}_tokens_sum"] == tokens
        assert told[f"vllm:request_{name}_tokens_bucket le=1"] == (tokens == 1)
        assert told[f"vllm:request_{name}_tokens_bucket le=100000"] == 1


def test_requests_are_counted_even_while_the_model_loads(tiny_path: Path) -> None:
    served = Served(tiny_path)
    served.post("/v1/chat/completions", {"messages": HELLO})
    served.readiness.served = None
    served.post("/v1/chat/completions", {"messages": HELLO})
    told = samples(served)
    route = "method=POST route=/v1/chat/completions"
    assert told.pop("twofold:tasks") >= 1
    assert told == {f"twofold:http_requests_total {route} status={status}": 1 for status in (200, 503)}
