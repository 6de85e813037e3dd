/* Weights that hold no moments and share what their row holds: steps, scores and joining of AdamWPrune's lean mode. */

#include "bits.h"
#include "step.h"

/* What a step of a slice needs of which only some weights hold moments. */
struct lean {
    struct slice held;   /* for those that do: their mask, moments and settings */
    const float *scales; /* for the others: what the gradients of each row of the tensor are multiplied by */
    long length, offset; /* of a row; of the slice's first weight in the tensor */
    float decay;         /* lr * weight_decay */
    float max_step;      /* how far a gradient moves a weight at most */
};

static float without_of[256][8]; /* 1 for each zero of a byte */

__attribute__((constructor)) static void fill_table(void)
{
    for (int byte = 0; byte < 256; byte++)
        for (int bit = 0; bit < 8; bit++)
            without_of[byte][bit] = (byte >> bit & 1) ? 0.0f : 1.0f;
}

/* For each of count weights from offset on the entry of its row. */
static void spread(const float *rows, long length, long offset, int count, float *out)
{
    const float *row = rows + offset / length;
    long left = length - offset % length;
    for (int done = 0; done < count; row++, left = length) {
        const int end = left < count - done ? done + (int)left : count;
        for (; done < end; done++)
            out[done] = *row;
    }
}

static int number_of_ones(const uint8_t *bits, int length)
{
    int found = 0;
    for (int byte = 0; byte < (length + 7) / 8; byte++)
        found += number_of[bits[byte]];
    return found;
}

/* Put values at the places of the ones among at most BLOCK bits, in order; values has room for 16 more. */
static void scatter(const float *values, const uint8_t *bits, int length, float *onto)
{
#ifdef __AVX512F__
    if (length == BLOCK) {
        for (int i = 0; i < BLOCK / 16; i++) {
            const uint16_t here = (uint16_t)(bits[2 * i] | bits[2 * i + 1] << 8);
            _mm512_mask_storeu_ps(onto + 16 * i, here, _mm512_maskz_expand_ps(here, _mm512_loadu_ps(values)));
            values += __builtin_popcount(here);
        }
        return;
    }
#endif
    uint16_t where[BLOCK + 8];
    const int count = positions(bits, (length + 7) / 8, where);
    for (int i = 0; i < count; i++)
        onto[where[i]] = values[i];
}

/* Whether a weight has been pruned: it is -0.0 then. Its bits are compared, as -0.0 equals 0.0. */
static inline int is_pruned(float w)
{
    int32_t bits;
    memcpy(&bits, &w, sizeof bits);
    return bits == INT32_MIN;
}

/* w -= clip(scale * g) + decay * w where no moments are held and nothing is pruned. */
static void scaled_block(const struct lean *s, long start, int length)
{
    float scale[BLOCK], without[BLOCK + 8];
    const uint8_t *bits = s->held.bits + start / 8;
    float *restrict w = s->held.w + start;
    const float *restrict g = s->held.g + start;
    spread(s->scales, s->length, s->offset + start, length, scale);
#ifdef __AVX512F__
    if (length == BLOCK) {
        const __m512 decay = _mm512_set1_ps(s->decay), max_step = _mm512_set1_ps(s->max_step);
        const __m512i pruned = _mm512_set1_epi32(INT32_MIN);
        for (int i = 0; i < BLOCK; i += 16) {
            const __m512 here = _mm512_loadu_ps(w + i);
            const uint16_t held = (uint16_t)(bits[i / 8] | bits[i / 8 + 1] << 8);
            const uint16_t rest = (uint16_t)~held & _mm512_cmpneq_epi32_mask(_mm512_castps_si512(here), pruned);
            const __m512 step = _mm512_loadu_ps(g + i) * _mm512_loadu_ps(scale + i);
            const __m512 clipped = _mm512_max_ps(-max_step, _mm512_min_ps(max_step, step)); /* NaN stays */
            const __m512 change = clipped + decay * here;
            _mm512_mask_storeu_ps(w + i, rest, here - change);
        }
        return;
    }
#endif
    for (int byte = 0; byte < (length + 7) / 8; byte++)
        memcpy(without + 8 * byte, without_of[bits[byte]], sizeof without_of[0]);
    for (int i = 0; i < length; i++) {
        const float step = g[i] * scale[i];
        const float clipped = step > s->max_step ? s->max_step : step < -s->max_step ? -s->max_step : step;
        const float change = clipped + s->decay * w[i];
        w[i] -= without[i] != 0.0f && !is_pruned(w[i]) ? change : 0.0f;
    }
}

/* One step of all weights, block by block, so that memory is gone through once: AdamW's of those that hold moments. */
void lean_step(const struct lean *slices, long number)
{
    for (const struct lean *s = slices; s < slices + number; s++)
        for (long start = 0, done = 0; start < s->held.size; start += BLOCK) {
            const long left = s->held.size - start;
            done += adamw_block(&s->held, start, done);
            scaled_block(s, start, left < BLOCK ? (int)left : BLOCK);
        }
}

/* |w| * v_hat^(2^-roots) of all weights, -1 where they are pruned. v and its correction are those of the weights that
 * hold moments; for the others v_hat^(2^-roots) is that of their row, given in powers. */
void fisher_lean(const float *w, const float *v, const uint8_t *bits, const float *powers, long length, long offset,
                 long size, float correction, int roots, float *scores)
{
    float held[BLOCK + 16];
    for (long start = 0; start < size; start += BLOCK) {
        const int block = size - start < BLOCK ? (int)(size - start) : BLOCK;
        const int count = number_of_ones(bits + start / 8, block);
        for (int i = 0; i < count; i++)
            held[i] = sqrtf(v[i] / correction);
        if (roots == 2)
            for (int i = 0; i < count; i++)
                held[i] = sqrtf(held[i]);
        spread(powers, length, offset + start, block, scores + start);
        scatter(held, bits + start / 8, block, scores + start);
        for (int i = 0; i < block; i++)
            scores[start + i] = is_pruned(w[start + i]) ? -1.0f : fabsf(w[start + i] * scores[start + i]);
        v += count;
    }
}

/* Moments for the ones among fresh: those that the ones among old have, and for the others their row's (NULL: zero). */
void gather_or_init(const uint8_t *old, const uint8_t *fresh, const float *from, const float *rows, long length,
                    long offset, long size, float *to)
{
    float held[BLOCK + 16], all[BLOCK], kept[BLOCK + 16];
    for (long start = 0; start < size; start += BLOCK) {
        const int block = size - start < BLOCK ? (int)(size - start) : BLOCK;
        int count = number_of_ones(old + start / 8, block);
        memcpy(held, from, count * sizeof *from);
        from += count;
        if (rows)
            spread(rows, length, offset + start, block, all);
        else
            memset(all, 0, sizeof all);
        scatter(held, old + start / 8, block, all);
        count = gather(all, fresh + start / 8, block, kept);
        memcpy(to, kept, count * sizeof *to);
        to += count;
    }
}
