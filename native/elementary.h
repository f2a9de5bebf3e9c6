/* Functions beside the exponential of simd.h, in the same manner: one IEEE operation after the other, no table. */
#pragma once
#include "simd.h"

/* tanh(x): Cephes' polynomial below 0.625, else by the exponential; odd, so the sign is put back at the end */
INLINE f32v tanh_of(f32v x) {
  const f32v m = abs_of(x), z = m * m;
  f32v p = splat(-5.70498872745e-3f);
  p = p * z + 2.06390887954e-2f;
  p = p * z + -5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z + -3.33332819422e-1f;
  p = (p * z) * m + m;
  const f32v far = 1.0f - 2.0f / (exp_of(m + m) + 1.0f);
  return (f32v)((i32v)pick(m < 0.625f, p, far) | ((i32v)x & (int32_t)0x80000000));
}
