/* What the loops over the bits of a mask share: a block's size, the positions of ones, and gathering by them. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined __AVX512F__ || defined __BMI2__
#include <immintrin.h>
#endif

enum { BLOCK = 2048 }; /* weights handled at a time: what is gathered of them stays in cache */

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
