// The searches of ggml-quants.c for the scale of a block, in lanes: each function does in every lane what the function
// of ggml that is named above it does for one block, operation by operation and in the same order, so that every lane
// gets the same bits. Where ggml leaves a loop early or skips a part, the lanes go on and the result is not taken.

#pragma once

#include "lanes.h"

#include <stdbool.h>

#define SEARCH static inline __attribute__((always_inline)) // so that counts and limits are constants

// ggml's GROUP_MAX_EPS: a block whose numbers are all nearer to zero is zero.
#define NOTHING 1e-15f

// The grid of scales that is tried, in steps of a level.
typedef struct {
    float first, step;
    int steps;
} grid;

// make_qkx2_quants and make_qkx3_quants: x is about scale * level - minimum, with levels from 0 to `top`.
SEARCH floats search_with_minimum(int n, int top, const floats *x, const floats *weight, ints *level, floats *minimum,
                                  grid tried, bool absolute) {
    floats low = x[0], high = x[0], sum_w = weight[0], sum_x = sum_w * x[0];
    for (int i = 1; i < n; ++i) {
        low = lesser(x[i], low);
        high = greater(x[i], high);
        sum_w += weight[i];
        sum_x += weight[i] * x[i];
    }
    low = choose(low > 0.f, all(0), low);
    const ints empty = high <= low;
    const floats low_of_empty = low;

    // Not the best levels are kept but what they come from: that is two vectors and not n to be chosen in each step.
    floats inverse = (float)top / (high - low), from = low, scale = 1.f / inverse, best = {0};
    floats best_inverse = inverse;
    for (int i = 0; i < n; ++i) {
        const floats l = to_floats(limit(nearest(inverse * (x[i] - low)), 0, top));
        const floats off = scale * l + low - x[i];
        best += weight[i] * (absolute ? magnitude(off) : off * off);
    }
    for (int step = 0; step <= tried.steps; ++step) {
        inverse = (tried.first + tried.step * step + top) / (high - low);
        floats l[32], sum_l = {0}, sum_l2 = {0}, sum_xl = {0};
        for (int i = 0; i < n; ++i) {
            l[i] = to_floats(limit(nearest(inverse * (x[i] - low)), 0, top));
            const floats wl = weight[i] * l[i];
            sum_l += wl;
            sum_l2 += wl * l[i];
            sum_xl += wl * x[i];
        }
        const floats determinant = sum_w * sum_l2 - sum_l * sum_l;
        floats this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        floats this_low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        const ints above = this_low > 0.f;
        this_low = choose(above, all(0), this_low);
        this_scale = choose(above, sum_xl / sum_l2, this_scale);
        floats error = {0};
        for (int i = 0; i < n; ++i) {
            const floats off = this_scale * l[i] + this_low - x[i];
            error += weight[i] * (absolute ? magnitude(off) : off * off);
        }
        const ints better = (determinant > 0.f) & (error < best);
        best = choose(better, error, best);
        best_inverse = choose(better, inverse, best_inverse);
        from = choose(better, low, from);
        scale = choose(better, this_scale, scale);
        low = choose(better, this_low, low); // and the next step starts from it
    }
    for (int i = 0; i < n; ++i) level[i] = limit(nearest(best_inverse * (x[i] - from)), 0, top) & ~empty;
    *minimum = -choose(empty, low_of_empty, low);
    return choose(empty, all(0), scale);
}

// make_qx_quants with rmse_type 1: x is about scale * (level - top), with levels from 0 to 2 * top - 1. Without
// weights a number's weight is its square.
SEARCH floats search_symmetric(int n, int top, const floats *x, const floats *weight, ints *level) {
    floats max = {0}, largest = {0};
    for (int i = 0; i < n; ++i) {
        const floats size = magnitude(x[i]);
        const ints larger = size > largest;
        largest = choose(larger, size, largest);
        max = choose(larger, x[i], max);
    }
    const ints empty = largest < NOTHING;

    floats best_inverse = {0}, scale = {0}, best = {0};
    for (int turn = -10; turn <= 9; ++turn) {
        const int step = turn == -10 ? 0 : turn; // ggml starts in the middle
        if (turn == 0) continue;
        const floats inverse = -(top + 0.1f * step) / max;
        floats sum_lx = {0}, sum_l2 = {0};
        for (int i = 0; i < n; ++i) {
            const floats l = to_floats(limit(nearest(inverse * x[i]), -top, top - 1));
            const floats w = weight ? weight[i] : x[i] * x[i];
            sum_lx += w * x[i] * l;
            sum_l2 += w * l * l;
        }
        const floats this_scale = sum_lx / sum_l2;
        if (step == 0) {
            best_inverse = inverse;
            scale = choose(sum_l2 != 0.f, this_scale, all(0));
            best = scale * sum_lx;
        } else {
            const ints better = (sum_l2 > 0.f) & (sum_lx * sum_lx > best * sum_l2);
            best_inverse = choose(better, inverse, best_inverse);
            scale = choose(better, this_scale, scale);
            best = choose(better, scale * sum_lx, best);
        }
    }
    for (int i = 0; i < n; ++i) level[i] = (top + limit(nearest(best_inverse * x[i]), -top, top - 1)) & ~empty;
    return choose(empty, all(0), scale);
}

// make_q3_quants with do_rmse: as search_symmetric, but one level after the other is moved as long as that helps.
SEARCH floats search_by_moving(int n, int top, const floats *x, ints *level) {
    floats max = {0}, largest = {0};
    for (int i = 0; i < n; ++i) {
        const floats size = magnitude(x[i]);
        const ints larger = size > largest;
        largest = choose(larger, size, largest);
        max = choose(larger, x[i], max);
    }
    const ints empty = largest < NOTHING;

    const floats inverse = (float)-top / max;
    floats sum_lx = {0}, sum_l2 = {0};
    for (int i = 0; i < n; ++i) {
        level[i] = limit(nearest(inverse * x[i]), -top, top - 1);
        const floats l = to_floats(level[i]), w = x[i] * x[i];
        sum_lx += w * x[i] * l;
        sum_l2 += w * l * l;
    }
    // A lane in which nothing moved has the same numbers in the next round, and nothing moves again.
    for (int round = 0; round < 5; ++round) {
        ints moved = {0};
        for (int i = 0; i < n; ++i) {
            const floats w = x[i] * x[i], l = to_floats(level[i]);
            floats lx = sum_lx - w * x[i] * l, l2 = sum_l2 - w * l * l;
            const ints other = limit(nearest(x[i] * l2 / lx), -top, top - 1);
            const ints may = (lx > 0.f) & (other != level[i]);
            const floats o = to_floats(other);
            lx += w * x[i] * o;
            l2 += w * o * o;
            const ints better = may & (l2 > 0.f) & (lx * lx * sum_l2 > sum_lx * sum_lx * l2);
            level[i] = choose_ints(better, other, level[i]);
            sum_lx = choose(better, lx, sum_lx);
            sum_l2 = choose(better, l2, sum_l2);
            moved |= better;
        }
        if (!any(moved)) break;
    }
    for (int i = 0; i < n; ++i) level[i] = (level[i] + top) & ~empty;
    return choose(empty | ~(sum_l2 > 0.f), all(0), sum_lx / sum_l2);
}

// make_qp_quants: x, of which none is expected to be negative, is about scale * level, with levels up to `top`. Levels
// are bytes, as there: a negative number makes a large one.
SEARCH floats search_positive(int n, int top, const floats *x, const floats *weight, ints *level) {
    floats max = {0};
    for (int i = 0; i < n; ++i) max = greater(max, x[i]);
    const ints empty = max < NOTHING;

    floats inverse = (float)top / max, scale = 1.f / inverse, best = {0};
    for (int i = 0; i < n; ++i) {
        const floats off = x[i] - scale * to_floats(nearest(inverse * x[i]) & 0xff);
        best += weight[i] * off * off;
    }
    for (int step = -4; step <= 4; ++step) {
        if (step == 0) continue;
        const floats this_inverse = (0.1f * step + top) / max, this_scale = 1.f / this_inverse;
        floats error = {0};
        for (int i = 0; i < n; ++i) {
            const floats off = x[i] - this_scale * to_floats(limit(nearest(this_inverse * x[i]), INT32_MIN, top));
            error += weight[i] * off * off;
        }
        const ints better = error < best;
        best = choose(better, error, best);
        inverse = choose(better, this_inverse, inverse);
    }
    floats sum_lx = {0}, sum_l2 = {0};
    for (int i = 0; i < n; ++i) {
        const ints l = limit(nearest(inverse * x[i]), INT32_MIN, top);
        level[i] = l & 0xff;
        sum_lx += weight[i] * x[i] * to_floats(l);
        sum_l2 += weight[i] * to_floats(l) * to_floats(l);
    }
    for (int round = 0; round < 5; ++round) {
        ints moved = {0};
        for (int i = 0; i < n; ++i) {
            const floats w = weight[i], l = to_floats(level[i]);
            floats lx = sum_lx - w * x[i] * l, l2 = sum_l2 - w * l * l;
            const ints other = limit(nearest(x[i] * l2 / lx), INT32_MIN, top);
            const ints may = (lx > 0.f) & (l2 > 0.f) & (other != level[i]);
            const floats o = to_floats(other);
            lx += w * x[i] * o;
            l2 += w * o * o;
            const ints better = may & (lx * lx * sum_l2 > sum_lx * sum_lx * l2);
            level[i] = choose_ints(better, other & 0xff, level[i]);
            sum_lx = choose(better, lx, sum_lx);
            sum_l2 = choose(better, l2, sum_l2);
            moved |= better;
        }
        if (!any(moved)) break;
    }
    for (int i = 0; i < n; ++i) level[i] &= ~empty;
    return choose(empty | ~(sum_l2 > 0.f), all(0), sum_lx / sum_l2);
}
