// Vectors of LANES numbers, by the vector extension of GCC and Clang: one source for AVX2, AVX-512 and NEON.

#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define INSTRUCTIONS "AVX-512"
#define PROCESSOR "avx512f avx512bw avx512dq avx512vl f16c"  // what it must have, as /proc/cpuinfo names it
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#define INSTRUCTIONS "AVX2"
#define PROCESSOR "avx2 f16c"
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#define LANES 4
#define INSTRUCTIONS "NEON"
#define PROCESSOR ""  // every 64-bit ARM has it
#else
#error "neither AVX-512, AVX2 nor NEON"
#endif

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));  // also what a comparison gives: -1 where it holds

static inline floats all(float value) { return (floats){0} + value; }

static inline floats choose(ints where, floats yes, floats no) {
    return (floats)((where & (ints)yes) | (~where & (ints)no));
}

static inline ints choose_ints(ints where, ints yes, ints no) { return (where & yes) | (~where & no); }

static inline floats magnitude(floats x) { return (floats)((ints)x & 0x7fffffff); }

static inline int any(ints where) {
    int found = 0;
    for (int i = 0; i < LANES; ++i) found |= where[i];
    return found;
}

// ggml's nearest_int, bit by bit: out of its range it gives the same nonsense.
static inline ints nearest(floats x) { return ((ints)(x + 12582912.f) & 0x007fffff) - 0x00400000; }

static inline floats to_floats(ints x) { return __builtin_convertvector(x, floats); }

// What the extension has no operator for. Each is rounded correctly, as IEEE 754 has it, and so the same everywhere.
#if LANES == 16
static inline floats lesser(floats a, floats b) { return _mm512_min_ps(a, b); }  // a < b ? a : b, as MINPS is defined
static inline floats greater(floats a, floats b) { return _mm512_max_ps(a, b); }
static inline ints limit(ints x, int low, int high) {
    return (ints)_mm512_max_epi32(_mm512_min_epi32((__m512i)x, _mm512_set1_epi32(high)), _mm512_set1_epi32(low));
}
static inline floats root(floats x) { return _mm512_sqrt_ps(x); }
static inline ints to_half(floats x) { return (ints)_mm512_cvtepu16_epi32(_mm512_cvtps_ph(x, 0)); }
static inline floats from_half(ints h) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)h)); }
#elif LANES == 8
static inline floats lesser(floats a, floats b) { return _mm256_min_ps(a, b); }
static inline floats greater(floats a, floats b) { return _mm256_max_ps(a, b); }
static inline ints limit(ints x, int low, int high) {
    return (ints)_mm256_max_epi32(_mm256_min_epi32((__m256i)x, _mm256_set1_epi32(high)), _mm256_set1_epi32(low));
}
static inline floats root(floats x) { return _mm256_sqrt_ps(x); }
static inline ints to_half(floats x) { return (ints)_mm256_cvtepu16_epi32(_mm256_cvtps_ph(x, 0)); }
static inline floats from_half(ints h) {
    __m256i bits = (__m256i)h;
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1)));
}
#else
static inline floats lesser(floats a, floats b) { return choose(a < b, a, b); }  // of two zeros FMIN takes the negative
static inline floats greater(floats a, floats b) { return choose(a > b, a, b); }
static inline ints limit(ints x, int low, int high) {
    return (ints)vmaxq_s32(vminq_s32((int32x4_t)x, vdupq_n_s32(high)), vdupq_n_s32(low));
}
static inline floats root(floats x) { return (floats)vsqrtq_f32((float32x4_t)x); }
static inline ints to_half(floats x) {
    return (ints)vmovl_u16(vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x)));
}
static inline floats from_half(ints h) {
    return (floats)vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32((uint32x4_t)h)));
}
#endif

// The first, or the last, halves of two vectors, number by number in turn.
#if LANES == 16
#define FIRST_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define LAST_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES == 8
#define FIRST_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define LAST_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FIRST_HALVES 0, 4, 1, 5
#define LAST_HALVES 2, 6, 3, 7
#endif
#if defined(__clang__)
#define IN_TURN(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define IN_TURN(a, b, ...) __builtin_shuffle(a, b, (ints){__VA_ARGS__})
#endif

// Turn LANES rows of LANES numbers into columns. Take a number's place as the bits of its row before those of its
// column: one pass turns these bits round by one, and after as many as a row has bits the two have changed places.
static inline void transpose(ints *square) {
    for (int size = 1; size < LANES; size *= 2) {
        ints turned[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; ++i) {
            turned[2 * i] = IN_TURN(square[i], square[i + LANES / 2], FIRST_HALVES);
            turned[2 * i + 1] = IN_TURN(square[i], square[i + LANES / 2], LAST_HALVES);
        }
        memcpy(square, turned, sizeof turned);
    }
}

// Read `count` numbers of each lane's row: columns[i] has the i-th of all. `count` is a multiple of LANES.
static inline void load(const float *const *rows, int count, floats *columns) {
    for (int at = 0; at < count; at += LANES) {
        ints square[LANES];
        for (int i = 0; i < LANES; ++i) memcpy(&square[i], rows[i] + at, sizeof(ints));
        transpose(square);
        memcpy(columns + at, square, sizeof square);
    }
}

// Write `count` bytes to each lane's place, the i-th from columns[i], which is 0 to 255.
static inline void store(const ints *columns, int count, uint8_t *const *places) {
    for (int at = 0; at < count; at += 4 * LANES) {
        ints square[LANES];
        for (int i = 0; i < LANES; ++i) {
            square[i] = (ints){0};
            for (int k = 0; k < 4 && at + 4 * i + k < count; ++k) square[i] |= columns[at + 4 * i + k] << (8 * k);
        }
        transpose(square);
        const int left = count - at < 4 * LANES ? count - at : 4 * LANES;
        for (int i = 0; i < LANES; ++i) memcpy(places[i] + at, &square[i], left);
    }
}
