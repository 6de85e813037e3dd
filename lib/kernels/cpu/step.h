/* What an AdamW step of a slice needs, and the step of one of its blocks. */

#include <stdint.h>

struct settings {
    float decay;         /* 1 - lr * weight_decay */
    float one_minus_beta1, beta2, one_minus_beta2;
    float sqrt_bias_correction2; /* sqrt(1 - beta2^t) */
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

/* Step the survivors of the block that starts there; done of the slice's come before. Returns their number. */
int adamw_block(const struct slice *s, long start, long done);
