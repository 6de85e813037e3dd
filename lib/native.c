/* The loops over the bits of a mask that torch has no operation for. Plain C with GNU vector types, built on demand by
 * native.py; where the processor has AVX-512, its compressing and expanding moves do the gathering. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined __AVX512F__ || defined __BMI2__
#include <immintrin.h>
#endif

enum { BLOCK = 2048 }; /* weights handled at a time: what is gathered of them stays in cache */

/* What one AdamW step of a slice needs. */

struct settings {
    float decay;         /* 1 - lr * weight_decay */
    float weight1;       /* 1 - beta1 */
    float beta2, weight2; /* beta2, 1 - beta2 */
    float root2;         /* sqrt(1 - beta2^t) */
    float eps;
    float step_size;     /* -lr / (1 - beta1^t) */
    float sign;          /* -1 to maximize */
};

struct slice {
    float *w;            /* its weights */
    const float *g;      /* their gradients */
    float *m, *v;        /* the moments of its survivors */
    const uint8_t *bits; /* its mask, from a whole byte on */
    long size;           /* number of weights */
    struct settings settings;
};

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
                   const struct settings *settings)
{
    const struct settings p = *settings;
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

/* The survivors of at most BLOCK weights, in order; out has room for 16 more. Returns their number. */
static int gather(const float *from, const uint8_t *bits, int length, float *out)
{
    int count = 0;
#ifdef __AVX512F__
    if (length == BLOCK) {
        for (int i = 0; i < BLOCK / 16; i++) {
            const uint16_t keep = (uint16_t)(bits[2 * i] | bits[2 * i + 1] << 8);
            _mm512_storeu_ps(out + count, _mm512_maskz_compress_ps(keep, _mm512_loadu_ps(from + 16 * i)));
            count += __builtin_popcount(keep);
        }
        return count;
    }
#endif
    uint16_t where[BLOCK + 8];
    count = positions(bits, (length + 7) / 8, where);
    for (int i = 0; i < count; i++)
        out[i] = from[where[i]];
    return count;
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

/* One AdamW step of the survivors. Formulas and order of operations are those of torch's fused AdamW on the CPU. */
void adamw_compact(const struct slice *slices, long number)
{
    for (const struct slice *s = slices; s < slices + number; s++) {
        long done = 0, start = 0;
        for (; start + BLOCK <= s->size; start += BLOCK)
            done += step_whole_block(s, start, s->m + done, s->v + done);
        if (start < s->size)
            step_block(s, start, (int)(s->size - start), s->m + done, s->v + done);
    }
}

/* Positions of the ones among bits: up to 8 more places than there are ones are written to. Returns their number. */
long ones(const uint8_t *bits, long bytes, int64_t *where)
{
    long found = 0;
    for (long byte = 0; byte < bytes; byte++) {
        const positions8 here = ones_of[bits[byte]];
        for (int i = 0; i < 8; i++)
            where[found + i] = here[i] + 8 * byte;
        found += number_of[bits[byte]];
    }
    return found;
}

/* |w| * (v / correction)^(2^-roots) of the survivors of size weights; bits are NULL where all survive. */
void fisher(const float *w, const float *v, const uint8_t *bits, long size, float correction, int roots, float *scores)
{
    float survivors[BLOCK + 16];
    for (long start = 0; start < size; start += BLOCK) {
        const int length = size - start < BLOCK ? (int)(size - start) : BLOCK;
        const float *here = w + start;
        int count = length;
        if (bits) {
            count = gather(here, bits + start / 8, length, survivors);
            here = survivors;
        }
        if (roots == 1)
            for (int i = 0; i < count; i++)
                scores[i] = fabsf(here[i] * sqrtf(v[i] / correction));
        else
            for (int i = 0; i < count; i++)
                scores[i] = fabsf(here[i] * sqrtf(sqrtf(v[i] / correction)));
        scores += count;
        v += count;
    }
}

/* A whole number in the order of the scores; -0.0 counts as 0.0. No arithmetic, which might take denormals for zero. */
static inline int32_t key_of(float score)
{
    int32_t key;
    memcpy(&key, &score, sizeof key);
    key = key == INT32_MIN ? 0 : key;
    return key ^ ((key >> 31) & INT32_MAX);
}

/* Count the sortable keys of scores by their upper half or, of those with the given upper half, by their lower one. */
void tally(const float *scores, long number, int upper, int32_t *counts)
{
    for (long i = 0; i < number; i++) {
        const int32_t key = key_of(scores[i]);
        const int half = (key >> 16) + 0x8000;
        if (upper < 0)
            counts[half]++;
        else if (half == upper)
            counts[key & 0xFFFF]++;
    }
}

/* Keep the scores whose key is higher than key, and those with that key after the first ties. Returns the ties left. */
long keep(const float *scores, long number, int key, long ties, uint8_t *kept)
{
    if (ties == 0)
        for (long i = 0; i < number; i++)
            kept[i] = key_of(scores[i]) >= key;
    else
        for (long i = 0; i < number; i++) {
            const int32_t here = key_of(scores[i]);
            const int tied = here == key && ties > 0;
            kept[i] = here >= key && !tied;
            ties -= tied;
        }
    return ties;
}

/* Of the values of the ones among old (NULL: of all) those that are ones among fresh too. fresh has no ones beyond. */
void carry(const uint8_t *old, const uint8_t *fresh, long bytes, const float *from, float *to)
{
    long byte = 0;
#ifdef __AVX512F__
    for (; byte + 2 <= bytes; byte += 2) {
        const uint16_t after = (uint16_t)(fresh[byte] | fresh[byte + 1] << 8);
        const uint16_t before = old ? (uint16_t)(old[byte] | old[byte + 1] << 8) : 0xFFFF;
        const int taken = __builtin_popcount(after);
        /* nothing is read past the last value that is wanted: the vector may end there */
        const uint16_t wanted = after ? (uint16_t)(before & (0xFFFFFFFFu >> __builtin_clz(after))) : 0;
        const __m512 values = _mm512_maskz_compress_ps(after, _mm512_maskz_expandloadu_ps(wanted, from));
        _mm512_mask_storeu_ps(to, (uint16_t)((1u << taken) - 1), values);
        to += taken;
        from += __builtin_popcount(before);
    }
#endif
    for (; byte < bytes; byte++) {
        const unsigned before = old ? old[byte] : 255, after = fresh[byte];
        for (unsigned bit = 1; bit < 256; bit <<= 1) {
            if (after & bit)
                *to++ = *from;
            from += (before & bit) != 0;
        }
    }
}

/* New bits: those ones among old (NULL: of number weights all) whose entry of keep is true. */
void narrow(const uint8_t *old, const uint8_t *keep, long number, long bytes, uint8_t *fresh)
{
    const uint8_t *end = keep + number;
    long byte = 0;
#ifdef __BMI2__
    for (; byte < bytes && keep + 8 <= end; byte++) {
        const unsigned before = old ? old[byte] : 255;
        uint64_t next;
        memcpy(&next, keep, sizeof next); /* 8 entries, of which the byte takes as many as it has ones */
        fresh[byte] = (uint8_t)_pdep_u32((unsigned)_pext_u64(next, 0x0101010101010101), before);
        keep += __builtin_popcount(before);
    }
#endif
    for (; byte < bytes; byte++) {
        unsigned result = 0;
        for (int bit = 0; bit < 8; bit++)
            if ((old ? old[byte] >> bit & 1 : 1) && keep < end)
                result |= (unsigned)*keep++ << bit;
        fresh[byte] = (uint8_t)result;
    }
}
