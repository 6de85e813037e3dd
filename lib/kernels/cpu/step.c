/* Steps of weights whose moments are held for the survivors of a mask only. */

#include "bits.h"
#include "step.h"

static void update(float *restrict w, const float *restrict g, float *restrict m, float *restrict v, int count,
                   const struct settings *settings)
{
    const struct settings p = *settings;
    const float near = p.one_minus_beta1 < 0.5f ? 1.0f : 0.0f; /* torch's lerp starts from the nearer end */
    const float coefficient = p.one_minus_beta1 - (1.0f - near);
    for (int i = 0; i < count; i++) {
        const float grad = g[i] * p.sign;
        const float first = __builtin_fmaf(coefficient, grad - m[i], near != 0.0f ? m[i] : grad);
        const float second = __builtin_fmaf(p.one_minus_beta2 * grad, grad, v[i] * p.beta2);
        const float denominator = sqrtf(second) / p.sqrt_bias_correction2 + p.eps;
        m[i] = first;
        v[i] = second;
        w[i] = w[i] * p.decay + p.step_size * first / denominator;
    }
}

/* A block by tables; any processor, any length. Returns the number of survivors. */
static int step_block(const struct slice *s, long start, int length, float *m, float *v)
{
    uint16_t where[BLOCK + 8];
    float weights[BLOCK], gradients[BLOCK];
    float *w = s->w + start;
    const float *g = s->g + start;
    const int count = positions(s->bits + start / 8, (length + 7) / 8, where);
    for (int i = 0; i < count; i++) {
        weights[i] = w[where[i]];
        gradients[i] = g[where[i]];
    }
    update(weights, gradients, m, v, count, &s->settings);
    for (int i = 0; i < count; i++)
        w[where[i]] = weights[i];
    return count;
}

#ifdef __AVX512F__
/* A whole block, 16 weights at a time, read and written in the order of memory. */
static int step_whole_block(const struct slice *s, long start, float *m, float *v)
{
    float weights[BLOCK + 16], gradients[BLOCK + 16];
    float *w = s->w + start;
    const uint8_t *bits = s->bits + start / 8;
    const int count = gather(w, bits, BLOCK, weights);
    gather(s->g + start, bits, BLOCK, gradients);
    update(weights, gradients, m, v, count, &s->settings);
    const float *next = weights;
    for (int i = 0; i < BLOCK / 16; i++) {
        const uint16_t keep = (uint16_t)(bits[2 * i] | bits[2 * i + 1] << 8);
        _mm512_mask_storeu_ps(w + 16 * i, keep, _mm512_maskz_expand_ps(keep, _mm512_loadu_ps(next)));
        next += __builtin_popcount(keep);
    }
    return count;
}
#else
static int step_whole_block(const struct slice *s, long start, float *m, float *v)
{
    return step_block(s, start, BLOCK, m, v);
}
#endif

int adamw_block(const struct slice *s, long start, long done)
{
    const long left = s->size - start;
    if (left >= BLOCK)
        return step_whole_block(s, start, s->m + done, s->v + done);
    return step_block(s, start, (int)left, s->m + done, s->v + done);
}

/* One AdamW step of the survivors. Formulas and order of operations are those of torch's fused AdamW on the CPU. */
void adamw_compact(const struct slice *slices, long number)
{
    for (const struct slice *s = slices; s < slices + number; s++)
        for (long start = 0, done = 0; start < s->size; start += BLOCK)
            done += adamw_block(s, start, done);
}
