"""The arithmetic, in NumPy: the definition that every other implementation equals bit for bit.

Each float32 operation below is one IEEE 754 operation in a written order; nothing is fused, nothing is
summed by a library whose order could change. `docs/numerics.md` says the same in words.
"""

import numpy as np
import numpy.typing as npt

from twofold.model.operations import Route, Shares

F32 = npt.NDArray[np.float32]
F16 = npt.NDArray[np.float16]
I32 = npt.NDArray[np.int32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

f32 = np.float32
CHUNK = 64  # positions of one softmax chunk
_EXP = (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_TANH = (2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
_SINE = (-2.50507602534068634195e-08, 2.75573137070700676789e-06, -1.98412698298579493134e-04,
         8.33333333332248946124e-03, -1.66666666666666324348e-01)  # fmt: skip
_COSINE = (2.08757232129817482790e-09, -2.75573143513906633035e-07, 2.48015872894767294178e-05,
           -1.38888888888741095749e-03, 4.16666666666666019037e-02)  # fmt: skip


def exp(x: F32) -> F32:
    """e^x: 0 below -86, e^88 from 88 on, exactly 1 at 0; within 2 units in the last place between (Cephes)."""
    with np.errstate(all="ignore"):
        x = np.where(x > f32(88), f32(88), x)
        shifted = x * f32(1.44269504) + f32(12582912)
        whole = shifted - f32(12582912)
        r = (x - whole * f32(0.693359375)) - whole * f32(-2.12194440e-4)
        p = np.full_like(x, f32(1.9875691500e-4))
        for coefficient in _EXP:
            p = p * r + f32(coefficient)
        p = (p * (r * r) + r) + f32(1)
        bits = p.view(np.int32) + (shifted.view(np.int32) << 23)
        result: F32 = np.where(x >= f32(-86), bits.view(np.float32), f32(0))
        return result


def tanh(x: F32) -> F32:
    """Hyperbolic tangent, odd, within 2 units in the last place (Cephes below 0.625, else by the exponential)."""
    with np.errstate(all="ignore"):
        m = np.abs(x)
        z = m * m
        p = np.full_like(x, f32(-5.70498872745e-3))
        for coefficient in _TANH:
            p = p * z + f32(coefficient)
        near, far = (p * z) * m + m, f32(1) - f32(2) / (exp(m + m) + f32(1))
        result: F32 = np.copysign(np.where(m < f32(0.625), near, far), x)
        return result


def tree_sum(lanes: F32) -> F32:
    """Sum of 16 lanes (last axis): lanes 8 apart are added first, then 4, 2, 1."""
    for apart in (8, 4, 2, 1):
        lanes = lanes[..., :apart] + lanes[..., apart : 2 * apart]
    return lanes[..., 0]


def rms_norm(x: F32, weight: F32, epsilon: float) -> F32:
    """x f32[n, K] / sqrt(mean(x²) + epsilon) · weight; squares are summed in 32 lanes, element k in lane k mod 32."""
    inverse = f32(1) / np.sqrt(_sum_in_lanes(x * x) / f32(x.shape[1]) + f32(epsilon))
    normed: F32 = (x * inverse[:, None]) * weight
    return normed


def top(x: F32, k: int) -> I64:
    """Ids i64[n, k] of the k largest values of each row f32[n, V], by falling value, then by rising id."""
    return np.argsort(-x, axis=1, kind="stable")[:, :k]


def gather(x: F32, ids: I64) -> F32:
    """x[ids] f32[n, k] of each row f32[n, V] for ids i64[n, k]; 0 for an id outside the row."""
    found: F32 = np.where(
        (ids >= 0) & (ids < x.shape[1]), np.take_along_axis(x, ids.clip(0, x.shape[1] - 1), axis=1), 0
    )
    return found.astype(np.float32)


def log(x: F64) -> F64:
    """Natural logarithm of x >= 1 in f64, within 2^-50 of its value: 2 atanh((m - 1) / (m + 1)) for x = 2^e · m."""
    mantissa, exponent = np.frexp(x)
    low = mantissa * 2 <= 1.4142135623730951
    m, e = np.where(low, mantissa * 2, mantissa), np.where(low, exponent - 1, exponent)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = np.full_like(z, 1.0 / 17.0)
    for n in range(15, 1, -2):
        p = p * z + 1.0 / n
    result: F64 = e * 0.6931471805599453 + (2.0 * s + 2.0 * s * (z * p))
    return result


def log_sum_exp(x: F32) -> F32:
    """log(sum(exp(x))) f32[n, 1] of rows f32[n, V]; exponentials are summed in 16 lanes, element k in lane k mod 16."""
    most = x.max(1, keepdims=True)
    padded = np.full((len(x), -(-x.shape[1] // 16) * 16), -np.inf, np.float32)
    padded[:, : x.shape[1]] = x
    lanes = np.zeros((len(x), 16), np.float32)
    for k in range(0, padded.shape[1], 16):
        lanes = lanes + exp(padded[:, k : k + 16] - most)
    result: F32 = most + log(tree_sum(lanes)[:, None].astype(np.float64)).astype(np.float32)
    return result


def log_partition(x: F32) -> float:
    """log(sum(exp(x - max x))) in f64 of one row f32[V]; summed in 16 lanes, element k in lane k mod 16."""
    weights = np.zeros(-(-len(x) // 16) * 16, np.float64)
    weights[: len(x)] = exp(x - x.max())
    lanes = np.zeros(16, np.float64)
    for row in weights.reshape(-1, 16):
        lanes = lanes + row
    for apart in (8, 4, 2, 1):
        lanes = lanes[:apart] + lanes[apart:]
    return float(log(lanes)[0])


def layer_norm(x: F32, weight: F32, epsilon: float) -> F32:
    """(x - mean) / sqrt(variance + epsilon) · weight of rows f32[n, K]; both sums in 32 lanes, as in `rms_norm`."""
    mean = _sum_in_lanes(x) / f32(x.shape[1])
    centred = x - mean[:, None]
    inverse = f32(1) / np.sqrt(_sum_in_lanes(centred * centred) / f32(x.shape[1]) + f32(epsilon))
    normed: F32 = (centred * inverse[:, None]) * weight
    return normed


def _sum_in_lanes(x: F32) -> F32:
    """Sums f32[n] of rows f32[n, K] in 32 lanes, element k in lane k mod 32, the halves added, then the tree."""
    lanes = np.zeros((len(x), 32), np.float32)
    for k in range(0, x.shape[1], 32):
        lanes = lanes + x[:, k : k + 32]
    return tree_sum(lanes[:, :16] + lanes[:, 16:])


def sigmoid(x: F32) -> F32:
    """1 / (exp(-x) + 1), element by element."""
    return f32(1) / (exp(-x) + f32(1))


def route(x: F32, bias: F32 | None, how: Route) -> I64:
    """The experts i64[n, k] of rows of scores f32[n, E], by rising number."""
    value = sigmoid(x) if how.sigmoid else x
    value = _numbers(value if bias is None else value + bias)
    left = np.zeros(x.shape, bool)
    if how.groups > 1:
        grouped = value.reshape(len(x), how.groups, -1)
        best = -np.sort(-grouped, axis=2)
        sums = _numbers(best[..., 0] + best[..., 1])
        left = np.ones((len(x), how.groups), bool)
        np.put_along_axis(left, top(sums, how.kept), False, axis=1)
        left = left.repeat(grouped.shape[2], axis=1)
    return np.sort(np.lexsort((-value, left), axis=1)[:, : how.k], axis=1)


def shares(x: F32, ids: I64, how: Shares) -> F32:
    """What experts ids i64[n, k] of rows of scores f32[n, E] weigh, f32[n, k]; 0 for an id that is none."""
    most = _numbers(gather(x, ids) if how.normalised else x).max(1, keepdims=True)
    weights = sigmoid(x) if how.sigmoid else exp(x - most)
    chosen = gather(weights, ids)
    total = np.zeros(len(x), np.float32)
    for column in (chosen if how.normalised else weights).T:
        total = total + column
    if how.sigmoid and not how.normalised:
        total = np.ones(len(x), np.float32)
    with np.errstate(invalid="ignore"):
        found: F32 = chosen / total[:, None] * f32(how.scale)
    return np.where((ids >= 0) & (ids < x.shape[1]), found, f32(0))


def _numbers(x: F32) -> F32:
    """Minus infinity where there is no number."""
    return np.where(np.isnan(x), f32(-np.inf), x)


LEVELS = {8: f32(127), 16: f32(32512)}  # 32512 = 127 · 256: both bytes of a 16-bit activation fit int8


def quantise(x: F32, bits: int) -> tuple[I32, F32, I32]:
    """Round rows x f32[n, K] to integers of 8 or 16 bits in blocks of 32, x ≈ d · q.

    Returns (q i32[n, K/32, 32], d f32[n, K/32], sum of q i32[n, K/32]).
    """
    levels = LEVELS[bits]
    blocks = x.reshape(len(x), -1, 32)
    most = np.abs(blocks).max(-1)
    used = most > f32(2.0**-100)
    safe = np.where(used, most, f32(1))
    inverse = np.where(used, levels / safe, f32(0)).astype(np.float32)
    q = np.rint(blocks * inverse[..., None]).astype(np.int32)
    return q, np.where(used, most / levels, f32(0)).astype(np.float32), q.sum(-1, dtype=np.int32)


def swiglu(gate: F32, up: F32) -> F32:
    """gate / (exp(-gate) + 1) · up, element by element."""
    return gate / (exp(-gate) + f32(1)) * up


def clamped_swiglu(gate: F32, up: F32, limit: float, slope: float) -> F32:
    """g / (exp(-(g · slope)) + 1) · (u + 1): g and u are gate and up, both at most `limit`, u at least -limit."""
    g, u = np.where(gate > f32(limit), f32(limit), gate), np.where(up > f32(limit), f32(limit), up)
    u = np.where(u < f32(-limit), f32(-limit), u)
    gated: F32 = g / (exp(-(g * f32(slope))) + f32(1)) * (u + f32(1))
    return gated


def geglu(gate: F32, up: F32) -> F32:
    """GELU(gate) · up, element by element; GELU(g) = g / 2 · (tanh(sqrt(2 / pi) · (g + 0.044715 g³)) + 1)."""
    with np.errstate(over="ignore"):
        inner = (gate + ((gate * gate) * gate) * f32(0.044715)) * f32(0.7978845608)
    return ((gate * f32(0.5)) * (tanh(inner) + f32(1))) * up


def rotary_angles(positions: I64, frequencies: F32, magnitude: float = 1.0) -> tuple[F32, F32]:
    """(cosine, sine) f32[n, len(frequencies)] of position · frequency, the product rounded to f32 first.

    Both are rounded to f32, then multiplied by `magnitude`.
    """
    angle = (positions.astype(np.float32)[:, None] * frequencies[None, :]).astype(np.float64)
    shifted = angle * 0.63661977236758134 + 6755399441055744.0
    n = shifted - 6755399441055744.0
    r = angle - n * 1.5707963109016418
    r = r - n * 1.5893254712295857e-8
    r = r - n * 6.1232339957367660e-17
    z = r * r
    s, c = np.full_like(z, 1.58969099521155010221e-10), np.full_like(z, -1.13596475577881948265e-11)
    for a, b in zip(_SINE, _COSINE, strict=True):
        s, c = s * z + a, c * z + b
    s = r + r * z * s
    c = (1.0 - 0.5 * z) + z * z * c
    quadrant = shifted.view(np.int64) & 3
    cosine = np.choose(quadrant, (c, -s, -c, s))
    sine = np.choose(quadrant, (s, c, -s, -c))
    return cosine.astype(np.float32) * f32(magnitude), sine.astype(np.float32) * f32(magnitude)


def rotate(x: F32, cosine: F32, sine: F32, *, interleaved: bool) -> F32:
    """Rotary embedding of x f32[heads, d] by one position's cosine and sine f32[pairs]; the rest of d is unchanged."""
    half = len(cosine)
    even, odd = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    first, second = (even, odd) if interleaved else (slice(0, half), slice(half, 2 * half))
    out = x.copy()
    p, q = x[:, first], x[:, second]
    out[:, first] = p * cosine - q * sine
    out[:, second] = q * cosine + p * sine
    return out


def attend_chunk(q: F32, k: F16, v: F16, first: int = 0, soft_cap: float = 0.0) -> tuple[f32, f32, F32]:
    """One chunk by itself: (maximum, sum of exponentials, weighted values f32[d]) of q f32[d], k and v f16[t, d].

    Places before `first` are not seen.
    """
    scores = np.full(CHUNK, -np.inf, np.float32)
    total = np.zeros(len(k) - first, np.float32)
    for d in range(q.shape[0]):
        total = total + q[d] * k[first:, d].astype(np.float32)
    scores[first : len(k)] = f32(soft_cap) * tanh(total / f32(soft_cap)) if soft_cap else total
    top = scores.max()
    weights = exp(scores - top)
    lanes = np.zeros(16, np.float32)
    for block in range(0, CHUNK, 16):
        lanes = lanes + weights[block : block + 16]
    mixed = np.zeros(v.shape[1], np.float32)
    for t in range(first, len(v)):
        mixed = mixed + weights[t] * v[t].astype(np.float32)
    return top, f32(tree_sum(lanes)), mixed


def attend(q: F32, k: F16, v: F16, *, window: int = 0, soft_cap: float = 0.0, sink: float | None = None) -> F32:
    """Attention of one query head q f32[d] over k and v f16[t, d]: chunks of 64 positions merged in order.

    The last `window` positions are seen (0: all); a `sink` is a position before the first, without a value.
    """
    top, total = (f32(-np.inf), f32(0)) if sink is None else (f32(sink), f32(1))
    value = np.zeros(v.shape[1], np.float32)
    unseen = max(0, len(k) - window) if window else 0
    for start in range(unseen // CHUNK * CHUNK, len(k), CHUNK):
        part = slice(start, start + CHUNK)
        chunk_top, chunk_sum, chunk_value = attend_chunk(q, k[part], v[part], max(0, unseen - start), soft_cap)
        if chunk_top > top:
            before, now = exp(np.array([top - chunk_top], np.float32))[0], f32(1)
            top = chunk_top
        else:
            before, now = f32(1), exp(np.array([chunk_top - top], np.float32))[0]
        total = total * before + chunk_sum * now
        value = value * before + chunk_value * now
    return value / total
