/* One AdamW step of the surviving weights of a slice, gathering and scattering by the bits of the mask.
 *
 * Formulas and order of operations are those of torch's fused AdamW on the CPU. Plain C with GNU vector types, built on
 * demand by native.py. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { BLOCK = 2048 }; /* weights handled at a time: positions, gathered weights and gradients stay in cache */

typedef uint16_t positions8 __attribute__((vector_size(16)));

static positions8 ones_of[256]; /* positions of the ones of each byte, the rest is of no interest */
static uint8_t number_of[256];

__attribute__((constructor)) static void fill_tables(void)
{
    for (int byte = 0; byte < 256; byte++)
        for (int bit = 0; bit < 8; bit++)
            if (byte >> bit & 1)
                ones_of[byte][number_of[byte]++] = (uint16_t)bit;
}

struct settings {
    float decay;         /* 1 - lr * weight_decay */
    float weight1;       /* 1 - beta1 */
    float beta2, weight2; /* beta2, 1 - beta2 */
    float root2;         /* sqrt(1 - beta2^t) */
    float eps;
    float step_size;     /* -lr / (1 - beta1^t) */
    float sign;          /* -1 to maximize */
};

static int positions(const uint8_t *bits, int bytes, uint16_t *where)
{
    int found = 0;
    for (int byte = 0; byte < bytes; byte++) {
        const positions8 here = ones_of[bits[byte]] + (uint16_t)(8 * byte);
        memcpy(where + found, &here, sizeof here); /* what is past the ones is overwritten by the next byte's */
        found += number_of[bits[byte]];
    }
    return found;
}

static void update(float *restrict w, const float *restrict g, float *restrict m, float *restrict v, int count,
                   const struct settings p)
{
    const float near = p.weight1 < 0.5f ? 1.0f : 0.0f; /* torch's lerp starts from the nearer end */
    const float coefficient = p.weight1 - (1.0f - near);
    for (int i = 0; i < count; i++) {
        const float slope = g[i] * p.sign;
        const float first = __builtin_fmaf(coefficient, slope - m[i], near != 0.0f ? m[i] : slope);
        const float second = __builtin_fmaf(p.weight2 * slope, slope, v[i] * p.beta2);
        const float denominator = sqrtf(second) / p.root2 + p.eps;
        m[i] = first;
        v[i] = second;
        w[i] = w[i] * p.decay + p.step_size * first / denominator;
    }
}

/* w, g: the slice's weights and gradients; m, v: the moments of its survivors; returns the number of survivors. */
long adamw_compact(float *w, const float *g, float *m, float *v, const uint8_t *bits, long size,
                   const struct settings *settings)
{
    uint16_t where[BLOCK + 8];
    float weights[BLOCK], gradients[BLOCK];
    long done = 0;
    for (long start = 0; start < size; start += BLOCK) {
        const long length = size - start < BLOCK ? size - start : BLOCK;
        const int count = positions(bits + start / 8, (int)((length + 7) / 8), where);
        for (int i = 0; i < count; i++) {
            weights[i] = w[start + where[i]];
            gradients[i] = g[start + where[i]];
        }
        update(weights, gradients, m + done, v + done, count, *settings);
        for (int i = 0; i < count; i++)
            w[start + where[i]] = weights[i];
        done += count;
    }
    return done;
}
