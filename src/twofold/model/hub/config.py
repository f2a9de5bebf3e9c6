"""config.json of the model hub, said in GGUF's words, so that a family reads one kind of metadata.

A key that changes what is computed and that we have no word for is refused, not passed over.
"""

from collections.abc import Callable, Mapping

from twofold.errors import ModelError

Config = Mapping[str, object]
Metadata = dict[str, object]

# config.json → GGUF, values as they are
_PLAIN = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
}
_ACTIVATIONS = ("silu", "swish", "gelu_pytorch_tanh", None)


def metadata_of(config: Config) -> Metadata:
    """GGUF metadata of a text model's config.json; raises ModelError for what is missing or has no word there."""
    text, kind = text_part(config), architecture_of(config)
    found: Metadata = {name: text[key] for key, name in _PLAIN.items() if text.get(key) is not None}
    if "head_dim" in text and text["head_dim"] is not None:
        found["attention.value_length"] = text["head_dim"]
    _refuse_activation(text)
    found |= _rotary(text) | _windows(text)
    for refine in _FAMILY.get(kind, ()):
        found |= refine(text)
    return {"general.architecture": kind, **{f"{kind}.{name}": value for name, value in found.items()}}


def architecture_of(config: Config) -> str:
    """The family, which is the model_type of the text part; raises ModelError if the config states none."""
    kind = text_part(config).get("model_type", config.get("model_type"))
    if not isinstance(kind, str):
        raise ModelError("config.json states no model_type, so the family is unknown")
    return kind


def tied(config: Config) -> bool:
    """Whether the head is the embedding's matrix; families differ in what they mean by saying nothing."""
    text = text_part(config)
    given = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    return architecture_of(config) in _TIED if given is None else bool(given)


_TIED = frozenset(("gemma3_text", "smollm3"))


def optional_tensors(config: Config) -> frozenset[str]:
    """GGUF's names of the tensors that a checkpoint of this config has and others of its family have not."""
    text = text_part(config)
    kind = architecture_of(config)
    parts = _ALWAYS_BIASED.get(kind, ())
    for key, named in (_BIASED | _BIASED_IN.get(kind, {})).items():
        parts += named if text.get(key) else ()
    layers = _number(text, "num_hidden_layers")
    if not 1 <= layers <= MOST_LAYERS:
        raise ModelError(f"config.json: num_hidden_layers is {layers:g}; 1 to {MOST_LAYERS} are possible")
    found = {f"blk.{layer}.{part}.bias" for layer in range(int(layers)) for part in parts}
    if text.get("use_qk_norm") and kind in _NORMED_IF_TOLD:
        found |= {f"blk.{layer}.attn_{part}_norm.weight" for layer in range(int(layers)) for part in "qk"}
    if kind in _CORRECTED:
        dense = _number(text, "first_k_dense_replace", 0)
        found |= {f"blk.{layer}.exp_probs_b.bias" for layer in range(int(layers)) if layer >= dense}
    return frozenset(found if tied(config) else found | {"output.weight"})


def untold_tensors(config: Config) -> dict[str, tuple[float, ...]]:
    """Small tensors of the architecture that a checkpoint brings and no config tells, as zeros."""
    text = text_part(config)
    if architecture_of(config) != "gpt_oss":
        return {}
    layers, heads = (int(_number(text, key)) for key in ("num_hidden_layers", "num_attention_heads"))
    if not (1 <= layers <= MOST_LAYERS and 1 <= heads <= MOST_HEADS):
        raise ModelError(f"config.json: {layers} layers of {heads} heads are not possible")
    return {f"blk.{layer}.attn_sinks.weight": (0.0,) * heads for layer in range(layers)}


MOST_HEADS = 4096
MOST_LAYERS = 1024
WIDEST_HEAD = 1024
_BIASED: dict[str, tuple[str, ...]] = {
    "attention_bias": ("attn_q", "attn_k", "attn_v", "attn_output"),
    "mlp_bias": ("ffn_gate", "ffn_up", "ffn_down"),
}
_BIASED_IN: dict[str, dict[str, tuple[str, ...]]] = {"glm4_moe": {"attention_bias": ("attn_q", "attn_k", "attn_v")}}
_ALWAYS_BIASED: dict[str, tuple[str, ...]] = {
    "qwen2": ("attn_q", "attn_k", "attn_v"),
    "gpt_oss": (
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_gate_inp",
        "ffn_gate_exps",
        "ffn_up_exps",
        "ffn_down_exps",
    ),
}
_NORMED_IF_TOLD = frozenset(("glm4_moe",))  # heads of q and k
_CORRECTED = frozenset(("glm4_moe", "minimax_m2"))  # experts are chosen by scores with a correction


def text_part(config: Config) -> Config:
    """What the config says of the text model: models of more than text keep the text's part under a key of its own."""
    nested = config.get("text_config")
    return nested if isinstance(nested, Mapping) else config


def _refuse_activation(text: Config) -> None:
    for key in ("hidden_act", "hidden_activation"):
        if text.get(key) not in _ACTIVATIONS:
            raise ModelError(f"config.json: {key} {text[key]!r} is not supported")


def _number(config: Config, key: str, default: float | None = None) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:  # nor NaN
        raise ModelError(f"config.json: {key} is {value!r}; a number is needed")
    return float(value)


LARGEST = 1e30


def _rope(text: Config) -> Config:
    """The parameters of the rotary embedding, of the layers that see all where kinds of layers differ."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ModelError(f"config.json: rope parameters are {rope!r}; an object is needed")
    full = rope.get("full_attention")
    return full if isinstance(full, Mapping) else rope


def _rotary(text: Config) -> Metadata:
    rope = _rope(text)
    found: Metadata = {}
    base = rope.get("rope_theta", text.get("rope_theta"))
    if base is not None:
        found["rope.freq_base"] = base
    part = rope.get("partial_rotary_factor", text.get("partial_rotary_factor"))
    if part is not None:
        found["rope.dimension_count"] = int(
            _head_dim(text) * _number({"partial_rotary_factor": part}, "partial_rotary_factor")
        )
    elif isinstance(text.get("rotary_dim"), int):
        found["rope.dimension_count"] = text["rotary_dim"]
    kind = rope.get("rope_type", rope.get("type", "default"))
    if str(kind) not in _SCALINGS:
        raise ModelError(f"config.json: rotary scaling {kind!r} is not supported; supported: {', '.join(_SCALINGS)}")
    return found | _SCALINGS[str(kind)](rope, text)


def _head_dim(text: Config) -> int:
    given = text.get("head_dim")
    if isinstance(given, int):
        return given
    heads = _number(text, "num_attention_heads")
    return int(_number(text, "hidden_size") / heads) if heads else 0


def _linear(rope: Config, text: Config) -> Metadata:
    return {"rope.scaling.type": "linear", "rope.scaling.factor": _number(rope, "factor")}


def _original(rope: Config, text: Config) -> object:
    return rope.get("original_max_position_embeddings", text.get("original_max_position_embeddings"))


def _yarn(rope: Config, text: Config) -> Metadata:
    for key in ("mscale", "mscale_all_dim"):
        if rope.get(key) is not None:
            raise ModelError(f"config.json: rope parameter {key} is not supported")
    if rope.get("truncate", True) == (text.get("model_type") == "gpt_oss"):
        raise ModelError("config.json: YaRN's ramp is between parts of pairs (truncate false) in gpt_oss, there alone")
    found: Metadata = {"rope.scaling.type": "yarn", "rope.scaling.factor": _number(rope, "factor")}
    found["rope.scaling.original_context_length"] = _original(rope, text) or text.get("max_position_embeddings")
    for key, name in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
        if rope.get(key) is not None:
            found[f"rope.scaling.{name}"] = rope[key]
    return found


def _longrope(rope: Config, text: Config) -> Metadata:
    found: Metadata = {"rope.scaling.type": "longrope", "rope.scaling.original_context_length": _original(rope, text)}
    if rope.get("attention_factor") is not None:
        found["rope.scaling.attn_factor"] = rope["attention_factor"]
    return found


# llama3's factors and longrope's are small tensors in GGUF: `rope_tensors`
_SCALINGS: dict[str, Callable[[Config, Config], Metadata]] = {
    "default": lambda rope, text: {},
    "linear": _linear,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": lambda rope, text: {},
}


def _windows(text: Config) -> Metadata:
    used = text.get("use_sliding_window", True)
    window = text.get("sliding_window")
    return {"attention.sliding_window": window} if used and window is not None else {}


def _pattern(text: Config) -> int:
    """Every how many layers one sees all; raises ModelError if the kinds of layers follow no such pattern."""
    kinds = text.get("layer_types")
    every = text.get("sliding_window_pattern", text.get("_sliding_window_pattern"))
    if not isinstance(kinds, list):
        return every if isinstance(every, int) else 6
    full = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
    every = full[0] + 1 if full else len(kinds) + 1
    if full != list(range(every - 1, len(kinds), every)):
        raise ModelError("config.json: layer_types are in no regular pattern, which is not supported")
    return every


def _gemma3(text: Config) -> Metadata:
    found: Metadata = {"attention.sliding_window_pattern": _pattern(text)}
    found["attention.scale"] = _number(text, "query_pre_attn_scalar", 256) ** -0.5
    rope = text.get("rope_parameters")
    near = rope.get("sliding_attention") if isinstance(rope, Mapping) else None
    base = near.get("rope_theta") if isinstance(near, Mapping) else text.get("rope_local_base_freq")
    if base is not None:
        found["rope.freq_base_swa"] = base
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if text.get(key) is not None:
            found[key] = text[key]
    return found


def _smollm3(text: Config) -> Metadata:
    turned = text.get("no_rope_layers")  # 1 where a layer has a rotary embedding
    every = text.get("no_rope_layer_interval", 4)
    if isinstance(turned, list) and isinstance(every, int):
        bare = [i for i, has in enumerate(turned) if not has]
        every = bare[0] + 1 if bare else len(turned) + 1
        if bare != list(range(every - 1, len(turned), every)):
            raise ModelError("config.json: no_rope_layers are in no regular pattern, which is not supported")
    return {"rope.bare_every": every}


_EXPERTS = {  # config.json → GGUF, values as they are
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "norm_topk_prob": "expert_weights_norm",
    "routed_scaling_factor": "expert_weights_scale",
    "n_group": "expert_group_count",
    "topk_group": "expert_group_used_count",
    "n_shared_experts": "expert_shared_count",
    "first_k_dense_replace": "leading_dense_block_count",
}


def _experts(text: Config) -> Metadata:
    """A mixture of experts; ModelError if which layers have one is told in a way we have no word for."""
    found: Metadata = {name: text[key] for key, name in _EXPERTS.items() if text.get(key) is not None}
    counts = [
        text[key] for key in ("num_local_experts", "num_experts", "n_routed_experts") if text.get(key) is not None
    ]
    if text.get("decoder_sparse_step", 1) != 1 or text.get("mlp_only_layers"):
        raise ModelError("config.json: experts in some layers alone (decoder_sparse_step, mlp_only_layers)")
    return found | ({"expert_count": counts[0]} if counts else {})


def _gpt_oss(text: Config) -> Metadata:
    if (text.get("swiglu_limit", 7.0), text.get("swiglu_alpha", 1.702)) != (7.0, 1.702):
        raise ModelError("config.json: a swiglu_limit other than 7 or a swiglu_alpha other than 1.702")
    return {"attention.sliding_window_pattern": _pattern(text)}


_FAMILY: dict[str, tuple[Callable[[Config], Metadata], ...]] = {
    "gemma3_text": (_gemma3,),
    "glm4_moe": (_experts,),
    "gpt_oss": (_experts, _gpt_oss),
    "minimax_m2": (_experts,),
    "mixtral": (_experts,),
    "qwen3_moe": (_experts,),
    "smollm3": (_smollm3,),
}


def rope_tensors(config: Config) -> dict[str, tuple[float, ...]]:
    """The small tensors beside the rotary metadata, by GGUF's names: factors that frequencies are divided by."""
    text = text_part(config)
    rope = _rope(text)
    kind = rope.get("rope_type", rope.get("type"))
    if kind == "llama3":
        return {"rope_freqs.weight": _llama3_factors(rope, text)}
    if kind == "longrope":
        return {f"rope_factors_{name}.weight": _numbers(rope, f"{name}_factor") for name in ("short", "long")}
    return {}


def _numbers(rope: Config, key: str) -> tuple[float, ...]:
    values = rope.get(key)
    if not isinstance(values, list):
        raise ModelError(f"config.json: rope parameter {key} is missing")
    return tuple(_number({key: value}, key) for value in values)


def _llama3_factors(rope: Config, text: Config) -> tuple[float, ...]:
    """Llama 3.1's: long waves squeezed by the factor, short ones not, a ramp between (arXiv 2407.21783)."""
    factor, low, high = (_number(rope, key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    length = _number({"length": _original(rope, text)}, "length")
    base, dimensions = (
        _number({"rope_theta": rope.get("rope_theta", text.get("rope_theta"))}, "rope_theta"),
        _head_dim(text),
    )
    if not low < high or factor <= 0 or length <= 0 or base <= 1 or not 0 < dimensions <= WIDEST_HEAD:
        raise ModelError("config.json: the rotary scaling llama3 has numbers that cannot be meant")
    factors = []
    for i in range(dimensions // 2):
        turns = length / (2 * 3.141592653589793 * base ** (2 * i / dimensions))
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return tuple(factors)
