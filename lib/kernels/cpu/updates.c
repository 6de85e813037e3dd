/* What a mask update does: positions, scores, counts of them, new bits, and moments carried over to them. */

#include "bits.h"

/* Positions of the ones among bits: up to 8 more places than there are ones are written to. Returns their number. */
long bit_positions(const uint8_t *bits, long bytes, int64_t *where)
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
void histogram(const float *scores, long number, int upper, int32_t *counts)
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
long select_kept(const float *scores, long number, int key, long ties, uint8_t *kept)
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
void gather_kept(const uint8_t *old, const uint8_t *fresh, long bytes, const float *from, float *to)
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
void repack_mask(const uint8_t *old, const uint8_t *keep, long number, long bytes, uint8_t *fresh)
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
