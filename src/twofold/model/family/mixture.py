"""Mixtures of experts: a router, experts that are segments of their own, and what all rows share beside them.

GGUF stacks the experts of a layer: `ffn_gate_exps` is [experts, features, hidden], and so on.
"""

from collections.abc import Callable
from dataclasses import dataclass

from twofold.errors import ModelError
from twofold.model.family.base import BLOCK, Facts, check_widths
from twofold.model.family.parts import Layer, Operations, Parts, pre_norm_into
from twofold.model.operations import (
    Add,
    Bias,
    ContextLayer,
    Experts,
    Linear,
    Route,
    Shares,
    SwiGLU,
    WeightOperation,
    rounded,
)
from twofold.model.segment import ENDS, EXPERT_IN, EXPERT_OUT, Cut, Plane, Segment

MOST_EXPERTS = 1024  # MAX_EXPERTS of native/twofold.h
SOFTMAX, SIGMOID = 1, 2  # GGUF's expert_gating_func

Gate = Callable[[str, str, str], WeightOperation]  # of the values gate, up and out


@dataclass(frozen=True)
class Router:
    """How rows go to experts: to `used` of `count`, each `ffn` wide; `shared` is the width of what all go through."""

    count: int
    used: int
    ffn: int
    shared: int
    sigmoid: bool
    normalised: bool
    scale: float
    groups: int
    kept: int

    @classmethod
    def of(cls, facts: Facts, *, scoring: int = SOFTMAX) -> "Router":
        """As the metadata states it, `scoring` unless it says so; ModelError for numbers that do not fit each other."""
        count = facts.integer("expert_count", low=2, high=MOST_EXPERTS)
        ffn = facts.integer("expert_feed_forward_length", facts.integer("feed_forward_length"))
        facts.refuse("expert_gating_func", (SOFTMAX, SIGMOID), "this way of choosing experts")
        router = cls(
            count=count,
            used=facts.integer("expert_used_count", high=count),
            ffn=ffn,
            shared=facts.integer("expert_shared_count", 0, low=0) * ffn,
            sigmoid=facts.integer("expert_gating_func", scoring) == SIGMOID,
            normalised=facts.flag("expert_weights_norm", default=True),
            scale=rounded(facts.number("expert_weights_scale", 1.0)),
            groups=facts.integer("expert_group_count", 1, high=count // 2),
            kept=facts.integer("expert_group_used_count", 1, high=count // 2),
        )
        check_widths(BLOCK, expert_feed_forward_length=ffn)
        if count % router.groups or router.kept > router.groups or router.used > count // router.groups * router.kept:
            raise ModelError(
                f"{router.used} of {count} experts cannot be chosen from {router.kept} of {router.groups} groups"
            )
        return router


def mixed(parts: Parts, attention: ContextLayer, router: Router, *, head_norms: bool = False) -> Layer:
    """A layer as Llama has it, with a mixture of experts."""
    into = pre_norm_into(parts, head_norms=head_norms)
    return Layer(into, attention, parts.pre_norm_out(*mixture(parts, router, "ffn out"), x=EXPERT_IN))


def mixture(parts: Parts, router: Router, out: str, *, gate: Gate = SwiGLU) -> Operations:
    """The operations that make `out` of "expert in"; the experts' own become segments."""
    hidden, count = parts.size.hidden, router.count
    first = parts.size.layers + ENDS + len(parts.experts)
    bias = parts.bias("exp_probs_b", 1, count)
    parts.experts += [_expert(parts, router, number, gate) for number in range(count)]
    routed = (
        *parts.linear(EXPERT_IN, "ffn_gate_inp", "expert scores", count, hidden),
        Route("expert scores", router.used, "expert ids", router.sigmoid, bias, router.groups, router.kept),
        Shares("expert scores", "expert ids", "expert shares", router.sigmoid, router.normalised, router.scale),
        Experts(EXPERT_IN, "expert ids", "expert shares", first, count, "routed" if router.shared else out),
    )
    if not router.shared:
        return routed
    shared = parts.gated(EXPERT_IN, SwiGLU, "shared", suffix="_shexp", ffn=router.shared)
    return (*routed, *shared, Add("routed", "shared", out))


def _expert(parts: Parts, router: Router, number: int, gate: Gate) -> Segment:
    """One expert: rows of the stacked tensors."""

    def linear(x: str, name: str, out: str, rows: int, width: int) -> Operations:
        weight = f"{parts.tensor(name, router.count, rows, width)}[{number * rows}:{(number + 1) * rows}]"
        bias = parts.bias(name, router.count, rows)
        biased = (Bias(out, f"{bias}[{number}:{number + 1}]", out),) if bias else ()
        return (Linear(x, weight, out), *biased)

    hidden, ffn = parts.size.hidden, router.ffn
    operations = (
        *linear(EXPERT_IN, "ffn_gate_exps", "expert gate", ffn, hidden),
        *linear(EXPERT_IN, "ffn_up_exps", "expert up", ffn, hidden),
        gate("expert gate", "expert up", "expert product"),
        *linear("expert product", "ffn_down_exps", EXPERT_OUT, hidden, ffn),
    )
    return Segment(Cut((Plane(EXPERT_IN, hidden, "f32"),), (Plane(EXPERT_OUT, hidden, "f32"),)), operations)
