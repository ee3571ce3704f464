// llama.cpp's k-quants, to the same bytes, several super-blocks of 256 weights at a time: one in each lane of a vector.
//
// Nearly all of the time of quantizing goes into trying one scale after another. ggml does that with one number at a
// time, for the sums of a block are added up in one order. But super-blocks have nothing to do with each other: so here
// a lane adds up its own in that order, and what is written down for one super-block runs for all lanes.
//
// Compiled without -ffast-math, and with -ffp-contract=off: a fused multiply-add rounds once where ggml rounds twice.

#define GGML_COMMON_DECL_C
#include "ggml-common.h"

#include "search.h"

#include <stddef.h>

// Bytes of a block, one column each, at a field of ggml's struct.
#define AT(field) (out + offsetof(BLOCK, field))

static inline void put_half(ints *at, ints half) {
    at[0] = half & 0xff;
    at[1] = half >> 8;
}

// ---- weights of the numbers in the searches -------------------------------------------------------------------------

static inline floats sum_of_squares(int n, const floats *x) {
    floats sum = {0};
    for (int i = 0; i < n; ++i) sum += x[i] * x[i];
    return sum;
}

static inline floats sum_of(int n, const floats *x) {
    floats sum = {0};
    for (int i = 0; i < n; ++i) sum += x[i];
    return sum;
}

// With an importance matrix; `spread` is the mean square of the super-block, for most types twice that.
static inline void weigh(int n, const floats *x, const floats *importance, floats spread, floats *weight) {
    for (int i = 0; i < n; ++i) weight[i] = importance[i] * root(spread + x[i] * x[i]);
}

// ---- levels, once scales are rounded --------------------------------------------------------------------------------

// Where the rounded scale is zero the levels stay what the search found, as ggml leaves them.
static inline void round_again(int n, int low, int high, const floats *x, floats scale, floats minimum, ints *level) {
    const ints kept = scale == 0.f;
    for (int i = 0; i < n; ++i)
        level[i] = choose_ints(kept, level[i], limit(nearest((x[i] + minimum) / scale), low, high) - low);
}

static inline void pack_two_bits(const ints *level, ints *bytes) {
    for (int half = 0; half < QK_K; half += 128)
        for (int i = 0; i < 32; ++i) {
            const ints *l = level + half + i;
            bytes[half / 4 + i] = l[0] | l[32] << 2 | l[64] << 4 | l[96] << 6;
        }
}

static inline void pack_four_bits(const ints *level, ints *bytes) {
    for (int part = 0; part < QK_K; part += 64)
        for (int i = 0; i < 32; ++i) bytes[part / 2 + i] = (level[part + i] & 15) | (level[part + 32 + i] & 15) << 4;
}

// ---- Q2_K -----------------------------------------------------------------------------------------------------------

#define BLOCK block_q2_K
static void quantize_q2_K(const floats *x, const floats *importance, ints *out) {
    ints level[QK_K], scale_level[16], min_level[16], d, dmin;
    floats scale[16], minimum[16];
    if (importance) {
        const floats spread = sum_of_squares(QK_K, x) / QK_K;
        floats total[16];
        for (int j = 0; j < 16; ++j) {
            floats weight[16];
            weigh(16, x + 16 * j, importance + 16 * j, spread, weight);
            total[j] = sum_of(16, weight);
            scale[j] = search_with_minimum(16, 3, x + 16 * j, weight, level + 16 * j, &minimum[j],
                                           (grid){-0.9f, 0.05f, 36}, false);
        }
        d = to_half(search_positive(16, 15, scale, total, scale_level));
        dmin = to_half(search_positive(16, 15, minimum, total, min_level));
    } else {
        floats max_scale = {0}, max_min = {0};
        for (int j = 0; j < 16; ++j) {
            floats weight[16];
            for (int i = 0; i < 16; ++i) weight[i] = magnitude(x[16 * j + i]);
            scale[j] = search_with_minimum(16, 3, x + 16 * j, weight, level + 16 * j, &minimum[j],
                                           (grid){-0.5f, 0.1f, 15}, true);
            max_scale = greater(scale[j], max_scale);
            max_min = greater(minimum[j], max_min);
        }
        const ints has_scale = max_scale > 0.f, has_min = max_min > 0.f;
        for (int j = 0; j < 16; ++j) {
            scale_level[j] = nearest(15.f / max_scale * scale[j]) & 0xff & has_scale;
            min_level[j] = nearest(15.f / max_min * minimum[j]) & has_min;
        }
        d = to_half(choose(has_scale, max_scale / 15.f, all(0)));
        dmin = to_half(choose(has_min, max_min / 15.f, all(0)));
    }
    put_half(AT(d), d);
    put_half(AT(dmin), dmin);
    for (int j = 0; j < 16; ++j) {
        const ints both = (scale_level[j] | min_level[j] << 4) & 0xff;
        AT(scales)[j] = both;
        round_again(16, 0, 3, x + 16 * j, from_half(d) * to_floats(both & 15), from_half(dmin) * to_floats(both >> 4),
                    level + 16 * j);
    }
    pack_two_bits(level, AT(qs));
}
#undef BLOCK

// ---- Q3_K -----------------------------------------------------------------------------------------------------------

#define BLOCK block_q3_K
static void quantize_q3_K(const floats *x, const floats *importance, ints *out) {
    ints level[QK_K], scale_level[16], d; // scale_level: 0 to 63, for -32 to 31
    floats scale[16];
    if (importance) {
        const floats spread = 2.f * sum_of_squares(QK_K, x) / QK_K;
        floats total[16];
        for (int j = 0; j < 16; ++j) {
            floats weight[16];
            weigh(16, x + 16 * j, importance + 16 * j, spread, weight);
            total[j] = sum_of(16, weight);
            scale[j] = search_symmetric(16, 4, x + 16 * j, weight, level + 16 * j);
        }
        d = to_half(search_symmetric(16, 32, scale, total, scale_level));
    } else {
        floats max_scale = {0}, largest = {0};
        for (int j = 0; j < 16; ++j) {
            scale[j] = search_by_moving(16, 4, x + 16 * j, level + 16 * j);
            const ints larger = magnitude(scale[j]) > largest;
            largest = choose(larger, magnitude(scale[j]), largest);
            max_scale = choose(larger, scale[j], max_scale);
        }
        const ints has_scale = max_scale != 0.f;
        const floats inverse = -32.f / max_scale;
        for (int j = 0; j < 16; ++j) {
            const ints l = nearest(inverse * scale[j]) << 24 >> 24; // an int8_t, there
            scale_level[j] = (limit(l, -32, 31) + 32) & has_scale;
        }
        d = to_half(choose(has_scale, 1.f / inverse, all(0)));
    }
    put_half(AT(d), d);
    for (int j = 0; j < 8; ++j) AT(scales)[j] = (scale_level[j] & 15) | (scale_level[j + 8] & 15) << 4;
    for (int j = 0; j < 4; ++j) {
        const ints *l = scale_level + j;
        AT(scales)[8 + j] = l[0] >> 4 | l[4] >> 4 << 2 | l[8] >> 4 << 4 | l[12] >> 4 << 6;
    }
    for (int j = 0; j < 16; ++j)
        round_again(16, -4, 3, x + 16 * j, from_half(d) * to_floats(scale_level[j] - 32), all(0), level + 16 * j);
    for (int i = 0; i < 32; ++i) {
        AT(hmask)[i] = (ints){0};
        for (int bit = 0; bit < 8; ++bit) AT(hmask)[i] |= level[32 * bit + i] >> 2 << bit;
    }
    for (int i = 0; i < QK_K; ++i) level[i] &= 3;
    pack_two_bits(level, AT(qs));
}
#undef BLOCK

// ---- Q4_K and Q5_K --------------------------------------------------------------------------------------------------

// Levels up to `top`, scales of 8 blocks of 32, and minima, in six bits each: what the two types share.
SEARCH void quantize_q4_or_q5_K(int top, grid tried, const floats *x, const floats *importance, ints *level,
                                ints *scales, ints *d, ints *dmin) {
    ints scale_level[8], min_level[8];
    floats scale[8], minimum[8];
    if (importance) {
        const floats spread = 2.f * sum_of_squares(QK_K, x) / QK_K;
        floats total[8];
        for (int j = 0; j < 8; ++j) {
            floats weight[32];
            weigh(32, x + 32 * j, importance + 32 * j, spread, weight);
            total[j] = sum_of(32, weight);
            scale[j] = search_with_minimum(32, top, x + 32 * j, weight, level + 32 * j, &minimum[j],
                                           (grid){-0.9f, 0.05f, 36}, false);
        }
        *d = to_half(search_positive(8, 63, scale, total, scale_level));
        *dmin = to_half(search_positive(8, 63, minimum, total, min_level));
        // A negative scale makes a level of more than six bits. Of Q4_K ggml lets it run over, and reads what is there.
        for (int j = 0; j < 8 && top == 31; ++j) {
            scale_level[j] = limit(scale_level[j], 0, 63);
            min_level[j] = limit(min_level[j], 0, 63);
        }
    } else {
        floats max_scale = {0}, max_min = {0};
        for (int j = 0; j < 8; ++j) {
            floats weight[32];
            const floats mean = root(sum_of_squares(32, x + 32 * j) / 32.f);
            for (int i = 0; i < 32; ++i) weight[i] = mean + magnitude(x[32 * j + i]);
            scale[j] = search_with_minimum(32, top, x + 32 * j, weight, level + 32 * j, &minimum[j], tried, false);
            max_scale = greater(scale[j], max_scale);
            max_min = greater(minimum[j], max_min);
        }
        const floats inverse_scale = choose(max_scale > 0.f, 63.f / max_scale, all(0));
        const floats inverse_min = choose(max_min > 0.f, 63.f / max_min, all(0));
        for (int j = 0; j < 8; ++j) {
            scale_level[j] = limit(nearest(inverse_scale * scale[j]) & 0xff, 0, 63);
            min_level[j] = limit(nearest(inverse_min * minimum[j]) & 0xff, 0, 63);
        }
        *d = to_half(max_scale / 63.f);
        *dmin = to_half(max_min / 63.f);
    }
    for (int j = 0; j < 4; ++j) {
        scales[j] = scale_level[j] | (scale_level[j + 4] >> 4 << 6 & 0xff);
        scales[j + 4] = min_level[j] | (min_level[j + 4] >> 4 << 6 & 0xff);
        scales[j + 8] = (scale_level[j + 4] & 15) | (min_level[j + 4] & 15) << 4;
    }
    for (int j = 0; j < 8; ++j) {
        const ints s = j < 4 ? scales[j] & 63 : (scales[j + 4] & 15) | scales[j - 4] >> 6 << 4;
        const ints m = j < 4 ? scales[j + 4] & 63 : scales[j + 4] >> 4 | scales[j] >> 6 << 4;
        round_again(32, 0, top, x + 32 * j, from_half(*d) * to_floats(s), from_half(*dmin) * to_floats(m),
                    level + 32 * j);
    }
}

#define BLOCK block_q4_K
static void quantize_q4_K(const floats *x, const floats *importance, ints *out) {
    ints level[QK_K], d, dmin;
    quantize_q4_or_q5_K(15, (grid){-1.f, 0.1f, 20}, x, importance, level, AT(scales), &d, &dmin);
    put_half(AT(d), d);
    put_half(AT(dmin), dmin);
    pack_four_bits(level, AT(qs));
}
#undef BLOCK

#define BLOCK block_q5_K
static void quantize_q5_K(const floats *x, const floats *importance, ints *out) {
    ints level[QK_K], d, dmin;
    quantize_q4_or_q5_K(31, (grid){-0.5f, 0.1f, 15}, x, importance, level, AT(scales), &d, &dmin);
    put_half(AT(d), d);
    put_half(AT(dmin), dmin);
    pack_four_bits(level, AT(qs));
    for (int i = 0; i < 32; ++i) {
        AT(qh)[i] = (ints){0};
        for (int bit = 0; bit < 8; ++bit) AT(qh)[i] |= level[32 * bit + i] >> 4 << bit;
    }
}
#undef BLOCK

// ---- Q6_K -----------------------------------------------------------------------------------------------------------

#define BLOCK block_q6_K
static void quantize_q6_K(const floats *x, const floats *importance, ints *out) {
    ints level[QK_K];
    floats scale[16], max_scale = {0}, largest = {0};
    for (int j = 0; j < 16; ++j) {
        scale[j] = search_symmetric(16, 32, x + 16 * j, importance ? importance + 16 * j : NULL, level + 16 * j);
        const ints larger = magnitude(scale[j]) > largest;
        largest = choose(larger, magnitude(scale[j]), largest);
        max_scale = choose(larger, scale[j], max_scale);
    }
    const ints empty = largest < NOTHING; // all bytes of it are zero
    const floats inverse = -128.f / max_scale;
    const ints d = to_half(choose(empty, all(0), 1.f / inverse));
    put_half(AT(d), d);
    for (int j = 0; j < 16; ++j) {
        const ints l = limit(nearest(inverse * scale[j]), INT32_MIN, 127) << 24 >> 24 & ~empty; // an int8_t, there
        AT(scales)[j] = l & 0xff;
        round_again(16, -32, 31, x + 16 * j, from_half(d) * to_floats(l), all(0), level + 16 * j);
    }
    for (int i = 0; i < QK_K; ++i) level[i] &= ~empty;
    for (int half = 0; half < 2; ++half)
        for (int i = 0; i < 32; ++i) {
            const ints *l = level + 128 * half + i;
            AT(ql)[64 * half + i] = (l[0] & 15) | (l[64] & 15) << 4;
            AT(ql)[64 * half + i + 32] = (l[32] & 15) | (l[96] & 15) << 4;
            AT(qh)[32 * half + i] = l[0] >> 4 | l[32] >> 4 << 2 | l[64] >> 4 << 4 | l[96] >> 4 << 6;
        }
}
#undef BLOCK

// ---- the interface --------------------------------------------------------------------------------------------------

// ggml_quantize_chunk, whose numbers of types are those of the file format.
typedef size_t quantize_chunk(int type, const float *x, void *out, int64_t start, int64_t rows, int64_t width,
                              const float *importance);

static const struct {
    int type, size;
    void (*quantize)(const floats *x, const floats *importance, ints *out);
} types[] = {
    {10, sizeof(block_q2_K), quantize_q2_K}, {11, sizeof(block_q3_K), quantize_q3_K},
    {12, sizeof(block_q4_K), quantize_q4_K}, {13, sizeof(block_q5_K), quantize_q5_K},
    {14, sizeof(block_q6_K), quantize_q6_K},
};

// Say whether there is a number as large as 2^30, an infinity or a NaN among them. From such numbers come infinities and
// NaNs, and which of two NaNs an instruction hands on is the compiler's choice.
static inline int has_unusual(const floats *x) {
    ints found = {0};
    for (int i = 0; i < QK_K; ++i) found |= ((ints)x[i] & 0x7fffffff) >= 0x4e800000;
    return any(found);
}

// What is read before anything is called. The version is raised when the interface changes or an error is mended.
const int phi_bot_kquants_version = 1, phi_bot_kquants_lanes = LANES;
const char phi_bot_kquants_instructions[] = INSTRUCTIONS, phi_bot_kquants_processor[] = PROCESSOR;

// Do what `ggml`, ggml_quantize_chunk, does for whole rows of a multiple of 256 numbers, and return 0; or return 1, and
// do nothing, for a type that is not here. Calls `ggml` itself for super-blocks of unusual numbers.
int phi_bot_kquants(int type, const float *x, void *out, int64_t rows, int64_t width, const float *importance,
                    quantize_chunk *ggml) {
    int t = 0;
    while (t < 5 && types[t].type != type) ++t;
    if (t == 5 || width % QK_K) return 1;

    const int64_t across = width / QK_K, total = rows * across;
    for (int64_t first = 0; first < total; first += LANES) {
        const float *from[LANES], *with[LANES];
        uint8_t *to[LANES];
        for (int lane = 0; lane < LANES; ++lane) {
            // Lanes that are left over do the last super-block once more, to the same place.
            const int64_t i = first + lane < total ? first + lane : total - 1;
            from[lane] = x + QK_K * i;
            with[lane] = importance ? importance + QK_K * (i % across) : NULL;
            to[lane] = (uint8_t *)out + types[t].size * i;
        }
        floats numbers[QK_K], weights[QK_K];
        load(from, QK_K, numbers);
        if (importance) load(with, QK_K, weights);
        if (has_unusual(numbers) || (importance && has_unusual(weights))) {
            for (int lane = 0; lane < LANES; ++lane) ggml(type, from[lane], to[lane], 0, 1, QK_K, with[lane]);
            continue;
        }
        ints bytes[sizeof(block_q6_K)]; // the largest
        types[t].quantize(numbers, importance ? weights : NULL, bytes);
        store(bytes, types[t].size, to);
    }
    return 0;
}
