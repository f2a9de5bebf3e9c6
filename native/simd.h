/* One source for every processor: GCC and Clang vector extensions, `LANES` 32-bit lanes a native vector.
 *
 * Code that knows an instruction set is confined to this file: the integer dot, and half precision. Every
 * function here gives the same bits at every level, because each float operation is one IEEE operation in a
 * written order (docs/numerics.md) and the build forbids contraction into fused multiply-add.
 *
 * Work is laid out in panels of 16 lanes, so a panel is NV native vectors and no sum runs across lanes. */
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* RVV needs no intrinsics: the vectors below are of a fixed length that every VLEN from 128 on holds in two registers. */
#if defined(__AVX512BW__) && !defined(PORTABLE)
#define LANES 16
#elif (defined(__AVX2__) || defined(__riscv_vector)) && !defined(PORTABLE)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__aarch64__) && !defined(PORTABLE)
#define NEON
#endif
enum { PANEL = 16, NV = PANEL / LANES };

typedef float f32v __attribute__((vector_size(4 * LANES)));
typedef int32_t i32v __attribute__((vector_size(4 * LANES)));
typedef uint32_t u32v __attribute__((vector_size(4 * LANES)));
typedef uint8_t u8v __attribute__((vector_size(4 * LANES)));
typedef uint16_t u16h __attribute__((vector_size(2 * LANES)));

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")

INLINE f32v load(const float *p) { f32v v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, f32v v) { memcpy(p, &v, sizeof v); }
INLINE u8v load_bytes(const void *p) { u8v v; memcpy(&v, p, sizeof v); return v; }
/* 0 + x would be an addition (it turns -0 into 0) and hides the broadcast load; x - 0 is exact. */
INLINE f32v splat(float x) { return x - (f32v){0}; }
INLINE i32v isplat(int32_t x) { return x - (i32v){0}; }
INLINE f32v pick(i32v mask, f32v a, f32v b) { return (f32v)(((i32v)a & mask) | ((i32v)b & ~mask)); }
/* a where a > b, else b: what x86's own instruction does */
#if defined(__x86_64__) && LANES == 16
INLINE f32v max_of(f32v a, f32v b) { return (f32v)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(__x86_64__) && LANES == 8
INLINE f32v max_of(f32v a, f32v b) { return (f32v)_mm256_max_ps((__m256)a, (__m256)b); }
#else
INLINE f32v max_of(f32v a, f32v b) { return pick(a > b, a, b); }
#endif
/* a where a < b, else b */
#if defined(__x86_64__) && LANES == 16
INLINE f32v min_of(f32v a, f32v b) { return (f32v)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__x86_64__) && LANES == 8
INLINE f32v min_of(f32v a, f32v b) { return (f32v)_mm256_min_ps((__m256)a, (__m256)b); }
#else
INLINE f32v min_of(f32v a, f32v b) { return pick(a < b, a, b); }
#endif
/* whether any lane of a mask is set */
#if defined(__x86_64__) && LANES == 16
INLINE int any_of(i32v mask) { return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0; }
#elif defined(__x86_64__) && LANES == 8
INLINE int any_of(i32v mask) { return _mm256_movemask_epi8((__m256i)mask) != 0; }
#else
INLINE int any_of(i32v mask) {
  int32_t found = 0;
  for (int lane = 0; lane < LANES; lane++) found |= mask[lane];
  return found != 0;
}
#endif
INLINE f32v abs_of(f32v a) { return (f32v)((i32v)a & 0x7fffffff); }
INLINE f32v to_float(i32v a) { return __builtin_convertvector(a, f32v); }

/* ---- half precision: to nearest, ties to even; exact for every finite half */
INLINE float half_to_float(uint16_t h) {
  union { uint32_t u; float f; } a = {(uint32_t)(h & 0x7fff) << 13};
  a.f *= 0x1p112f;
  if ((h & 0x7c00) == 0x7c00) a.u |= 0x7f800000u;
  a.u |= (uint32_t)(h & 0x8000) << 16;
  return a.f;
}
INLINE f32v load_half(const uint16_t *p) {
#if defined(__F16C__) && LANES == 16
  return (f32v)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__F16C__) && LANES == 8
  return (f32v)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(NEON)
  return (f32v)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
  u16h h; memcpy(&h, p, sizeof h);
  u32v u = __builtin_convertvector(h, u32v);
  f32v magnitude = (f32v)((u & 0x7fffu) << 13) * 0x1p112f;
  u32v special = (u32v)((u & 0x7c00u) == 0x7c00u) & 0x7f800000u;
  return (f32v)((u32v)magnitude | special | ((u & 0x8000u) << 16));
#endif
}
INLINE void store_half(uint16_t *p, f32v v) {
#if defined(__F16C__) && LANES == 16
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)v, 0));
#elif defined(__F16C__) && LANES == 8
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, 0));
#elif defined(NEON)
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v)));
#else
  const u32v sign = (u32v)v & 0x80000000u, a = (u32v)v ^ sign, magic = (u32v)splat(0.5f);
  const u32v huge = (u32v)(a >= 143u << 23), tiny = (u32v)(a < 113u << 23), nan = (u32v)(a > 255u << 23);
  const u32v subnormal = (u32v)((f32v)a + (f32v)magic) - magic, normal = (a + 0xc8000fffu + ((a >> 13) & 1)) >> 13;
  const u32v finite = (subnormal & tiny) | (normal & ~tiny), special = 0x7c00u | (nan & 0x0200u);
  const u16h h = __builtin_convertvector((special & huge) | (finite & ~huge) | sign >> 16, u16h);
  memcpy(p, &h, sizeof h);
#endif
}
INLINE f32v load_bf16(const uint16_t *p) {
  u16h h; memcpy(&h, p, sizeof h);
  return (f32v)(__builtin_convertvector(h, u32v) << 16);
}

/* ---- integer dot: each lane adds four products of weight bytes and activation bytes, exactly.
 * Weight bytes of Q8_0 are kept as w + 128. VNNI multiplies them unsigned and starts at -128 times the sum of
 * the activations; the others make them signed first and start at 0. The integer is the same.
 * `splat4` is four activation bytes for all lanes, as the dot wants them: in every lane, or as four scalars. */
#if defined(__x86_64__) && !defined(PORTABLE) || defined(NEON)
typedef i32v quad;
INLINE quad splat4(const int8_t *p) { int32_t x; memcpy(&x, p, 4); return isplat(x); }
#else
typedef struct { int32_t byte[4]; } quad;
INLINE quad splat4(const int8_t *p) { return (quad){{p[0], p[1], p[2], p[3]}}; }
#endif
#if defined(__x86_64__) && !defined(PORTABLE)
#if LANES == 16
#define X86(name) _mm512_##name
typedef __m512i ivec;
#elif LANES == 8
#define X86(name) _mm256_##name
typedef __m256i ivec;
#else
#define X86(name) _mm_##name
typedef __m128i ivec;
#endif
#endif
#if defined(__AVX512VNNI__) && LANES == 16
INLINE i32v dot_u7(i32v sum, u8v w, quad x) { return (i32v)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x); }
INLINE i32v dot_q8(i32v sum, u8v w, quad x) { return dot_u7(sum, w, x); }
enum { Q8_SIGNED = 0 };
#elif defined(__x86_64__) && !defined(PORTABLE)
INLINE ivec even_bytes(ivec v) { return X86(srai_epi16)(X86(slli_epi16)(v, 8), 8); }
INLINE ivec odd_bytes(ivec v) { return X86(srai_epi16)(v, 8); }
INLINE i32v dot_s8(i32v sum, ivec w, ivec x) {
  ivec even = X86(madd_epi16)(even_bytes(w), even_bytes(x)), odd = X86(madd_epi16)(odd_bytes(w), odd_bytes(x));
  return sum + ((i32v)even + (i32v)odd);
}
INLINE i32v dot_u7(i32v sum, u8v w, quad x) {
#if LANES > 4 /* bytes below 128: at most 2 · 127 · 127 in 16 bits */
  return sum + (i32v)X86(madd_epi16)(X86(maddubs_epi16)((ivec)w, (ivec)x), X86(set1_epi16)(1));
#else
  return dot_s8(sum, (ivec)w, (ivec)x);
#endif
}
INLINE i32v dot_q8(i32v sum, u8v w, quad x) { return dot_s8(sum, (ivec)(w ^ 0x80), (ivec)x); }
enum { Q8_SIGNED = 1 };
#elif defined(NEON)
INLINE int16x8_t low_products(u8v w, quad x) { return vmull_s8(vget_low_s8((int8x16_t)w), vget_low_s8((int8x16_t)x)); }
INLINE int16x8_t high_products(u8v w, quad x) { return vmull_high_s8((int8x16_t)w, (int8x16_t)x); }
INLINE i32v dot_u7(i32v sum, u8v w, quad x) {
#if defined(__ARM_FEATURE_DOTPROD)
  return (i32v)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)x);
#else /* bytes below 128: at most 2 · 127 · 128 in 16 bits */
  return (i32v)vpadalq_s16((int32x4_t)sum, vpaddq_s16(low_products(w, x), high_products(w, x)));
#endif
}
INLINE i32v dot_q8(i32v sum, u8v w, quad x) {
#if defined(__ARM_FEATURE_DOTPROD)
  return dot_u7(sum, w ^ 0x80, x);
#else
  return sum + (i32v)vpaddq_s32(vpaddlq_s16(low_products(w ^ 0x80, x)), vpaddlq_s16(high_products(w ^ 0x80, x)));
#endif
}
enum { Q8_SIGNED = 1 };
#else /* any processor, RVV too: 32-bit lanes times scalars */
INLINE i32v dot_s8(i32v sum, i32v w, quad x) {
  sum = sum + ((w << 24) >> 24) * x.byte[0];
  sum = sum + ((w << 16) >> 24) * x.byte[1];
  sum = sum + ((w << 8) >> 24) * x.byte[2];
  return sum + (w >> 24) * x.byte[3];
}
INLINE i32v dot_u7(i32v sum, u8v w, quad x) { return dot_s8(sum, (i32v)w, x); }
INLINE i32v dot_q8(i32v sum, u8v w, quad x) { return dot_s8(sum, (i32v)(w ^ 0x80), x); }
enum { Q8_SIGNED = 1 };
#endif
INLINE u8v low_nibbles(u8v q) { return q & 15; }
INLINE u8v high_nibbles(u8v q) { return (u8v)(((u32v)q >> 4) & 0x0f0f0f0fu); }

/* ---- small integers and powers of two as floats */
typedef uint8_t u8q __attribute__((vector_size(LANES)));
typedef int8_t i8q __attribute__((vector_size(LANES)));
#if defined(__x86_64__) && LANES == 16
INLINE i32v load_ints(const uint8_t *p) { return (i32v)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INLINE i32v load_signed(const int8_t *p) { return (i32v)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INLINE void store_bytes(int8_t *p, i32v v) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)v)); }
#elif defined(__x86_64__) && LANES == 8
INLINE i32v load_ints(const uint8_t *p) { return (i32v)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
INLINE i32v load_signed(const int8_t *p) { return (i32v)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
INLINE void store_bytes(int8_t *p, i32v v) { i8q b = __builtin_convertvector(v, i8q); memcpy(p, &b, sizeof b); }
#else
INLINE i32v load_ints(const uint8_t *p) { u8q b; memcpy(&b, p, sizeof b); return __builtin_convertvector(b, i32v); }
INLINE i32v load_signed(const int8_t *p) { i8q b; memcpy(&b, p, sizeof b); return __builtin_convertvector(b, i32v); }
INLINE void store_bytes(int8_t *p, i32v v) { i8q b = __builtin_convertvector(v, i8q); memcpy(p, &b, sizeof b); }
#endif
INLINE f32v load_u8(const uint8_t *p) { return to_float(load_ints(p)); }
INLINE f32v load_s8(const int8_t *p) { return to_float(load_signed(p)); }
/* 2^(e - 128), exact down to the subnormals */
INLINE f32v half_power_of_two(const uint8_t *p) {
  const i32v e = load_ints(p), tiny = e < 2;
  return (f32v)(((0x00200000 << (e & tiny)) & tiny) | (((e - 1) << 23) & ~tiny));
}
INLINE float half_power_of_two_1(uint8_t e) {
  union { uint32_t u; float f; } a = {e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23};
  return a.f;
}
/* Four-bit floats (sign, two bits of exponent, one of mantissa) as twice their value plus 12: 0 to 24. */
INLINE u8v fp4_plus_12(u8v n) {
#if LANES > 4 && defined(__x86_64__) && !defined(PORTABLE)
  static const uint8_t table[64] __attribute__((aligned(64))) = {
      12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0, 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
      12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0, 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
  return (u8v)X86(shuffle_epi8)((ivec)load_bytes(table), (ivec)n);
#elif defined(NEON)
  return (u8v)vqtbl1q_u8((uint8x16_t){12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0}, (uint8x16_t)n);
#else
  const u8v m = n & 7, twice = m - (u8v)(m > 4) - (u8v)(m > 5) - 3 * (u8v)(m > 6), minus = (u8v)((n & 8) != 0);
  return 12 + ((twice ^ minus) - minus);
#endif
}

/* ---- e^x: 0 below -86, e^88 from 88 on, exactly 1 at 0 (Cephes' polynomial, Horner, no fused operation). `count`
 * vectors step by step, since each step of one waits for the step before it. */
#define EACH UNROLL for (int i = 0; i < count; i++)
INLINE void exp_of_each(const int count, f32v *x) {
  f32v shifted[8], r[8], p[8];
  EACH x[i] = min_of(splat(88.0f), x[i]);
  EACH shifted[i] = x[i] * 1.44269504f + 12582912.0f;
  EACH p[i] = shifted[i] - 12582912.0f; /* a whole number */
  EACH r[i] = (x[i] - p[i] * 0.693359375f) - p[i] * -2.12194440e-4f;
  EACH p[i] = r[i] * 1.9875691500e-4f + 1.3981999507e-3f;
  EACH p[i] = p[i] * r[i] + 8.3334519073e-3f;
  EACH p[i] = p[i] * r[i] + 4.1665795894e-2f;
  EACH p[i] = p[i] * r[i] + 1.6666665459e-1f;
  EACH p[i] = p[i] * r[i] + 5.0000001201e-1f;
  EACH p[i] = (p[i] * (r[i] * r[i]) + r[i]) + 1.0f;
  /* the magic constant's own bits fall out of the shift */
  EACH x[i] = (f32v)(((u32v)p[i] + ((u32v)shifted[i] << 23)) & (u32v)(x[i] >= -86.0f)); /* what is cleared may wrap around */
}
#undef EACH
INLINE f32v exp_of(f32v x) { exp_of_each(1, &x); return x; }

/* ---- across lanes: those LANES / 2 apart are joined first, then half as far. SWAP: lanes i and i ^ apart change places. */
#if LANES == 16
#define SWAP(v, apart)                                                                                          \
  __builtin_shufflevector(v, v, 0 ^ apart, 1 ^ apart, 2 ^ apart, 3 ^ apart, 4 ^ apart, 5 ^ apart, 6 ^ apart,      \
                          7 ^ apart, 8 ^ apart, 9 ^ apart, 10 ^ apart, 11 ^ apart, 12 ^ apart, 13 ^ apart,        \
                          14 ^ apart, 15 ^ apart)
#define ACROSS(v, join) v = join(v, SWAP(v, 8)); v = join(v, SWAP(v, 4)); v = join(v, SWAP(v, 2)); v = join(v, SWAP(v, 1))
#elif LANES == 8
#define SWAP(v, apart) __builtin_shufflevector(v, v, 0 ^ apart, 1 ^ apart, 2 ^ apart, 3 ^ apart, 4 ^ apart, 5 ^ apart, 6 ^ apart, 7 ^ apart)
#define ACROSS(v, join) v = join(v, SWAP(v, 4)); v = join(v, SWAP(v, 2)); v = join(v, SWAP(v, 1))
#else
#define SWAP(v, apart) __builtin_shufflevector(v, v, 0 ^ apart, 1 ^ apart, 2 ^ apart, 3 ^ apart)
#define ACROSS(v, join) v = join(v, SWAP(v, 2)); v = join(v, SWAP(v, 1))
#endif
INLINE i32v plus(i32v a, i32v b) { return a + b; }
INLINE f32v sum_of_two(f32v a, f32v b) { return a + b; }
INLINE float top_lane(f32v v) { ACROSS(v, max_of); return v[0]; }
INLINE int32_t lane_sum(i32v v) { ACROSS(v, plus); return v[0]; }

/* ---- the one tree that sums 16 lanes: 8 apart, 4, 2, 1 */
INLINE float tree_sum(const f32v *lanes) {
  f32v a[NV];
  for (int v = 0; v < NV; v++) a[v] = lanes[v];
  for (int apart = NV / 2; apart; apart /= 2)
    for (int v = 0; v < apart; v++) a[v] = a[v] + a[v + apart];
  ACROSS(a[0], sum_of_two);
  return a[0][0];
}

/* ---- four by four, rows for columns */
typedef float four __attribute__((vector_size(16)));
INLINE void transpose(four *x) {
  const four a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5), b = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7);
  const four c = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5), d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
  x[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5), x[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  x[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5), x[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}
