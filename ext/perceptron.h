/* A small perceptron over rows of features: score = skip . x + out . relu(hidden^T x + bias) of standardised x.

   Hidden units are padded with zeros to whole tiles of LANES. Their weights lie tile by tile ([tiles, features, LANES]),
   so that the sums of a tile stay in registers while the features go by. Rows are scored ROWS_AT_ONCE together: one sum
   alone would wait for its own last addition, and the weights are loaded once for all of them. What is added to what,
   and in which order, does not depend on the rows beside. */

#ifndef RECSERV_PERCEPTRON_H
#define RECSERV_PERCEPTRON_H

#include "lanes.h"

#define FEATURES_MAX 64
#define HIDDEN_MAX 64
#define ROWS_AT_ONCE 4

typedef struct {
    /* [features] each; `neutral` is in units of x. */
    const float *mean, *inverse_scale, *skip, *neutral;
    /* Features by group: numbers [features of all groups], where each group begins [groups + 1]. */
    const int32_t *grouped, *group_starts;
    /* [tiles, features, LANES], [tiles * LANES], [tiles * LANES]. */
    const float *hidden, *bias, *out;
    /* `features`: whole lanes, at most FEATURES_MAX. `tiles`: an even number, at most HIDDEN_MAX / LANES. */
    ptrdiff_t features, groups, tiles;
    float limit;
} perceptron;

/* x = (row - mean) * inverse_scale, cut off at +-limit, 0 for a NaN; returns skip . x. */
static inline __attribute__((always_inline)) float standardise(const perceptron *p, const float *row, float *x)
{
    const lanes most = p->limit - (lanes){0}, least = -most;
    lanes linear = {0};
    for (ptrdiff_t f = 0; f < p->features; f += LANES) {
        lanes v, other;
        lane_mask beyond;
        LOAD(v, row + f);
        LOAD(other, p->mean + f);
        v -= other;
        LOAD(other, p->inverse_scale + f);
        v *= other;
        beyond = v > most;
        v = (lanes)(((lane_mask)most & beyond) | ((lane_mask)v & ~beyond));
        beyond = v < least;
        v = (lanes)(((lane_mask)least & beyond) | ((lane_mask)v & ~beyond));
        v = (lanes)((lane_mask)v & (v == v));
        STORE(x + f, v);
        LOAD(other, p->skip + f);
        linear += v * other;
    }
    return SUM(linear);
}

/* scores [rows] of table [rows, features]. */
FOR_EACH_WIDTH
static void score_rows(const perceptron *p, const float *table, ptrdiff_t rows, float *scores)
{
    const lanes zero = {0};
    float x[ROWS_AT_ONCE][FEATURES_MAX], linear[ROWS_AT_ONCE];
    for (ptrdiff_t r = 0; r < rows; r += ROWS_AT_ONCE) {
        lanes rectified[ROWS_AT_ONCE] = {{0}};
        for (ptrdiff_t i = 0; i < ROWS_AT_ONCE; i++) {
            /* Past the end the last row again: its score is thrown away. */
            ptrdiff_t at = r + i < rows ? r + i : rows - 1;
            linear[i] = standardise(p, table + at * p->features, x[i]);
        }
        for (ptrdiff_t t = 0; t < p->tiles; t += 2) {
            const float *even = p->hidden + t * p->features * LANES, *odd = even + p->features * LANES;
            lanes w, v, sum_even[ROWS_AT_ONCE], sum_odd[ROWS_AT_ONCE];
            for (ptrdiff_t i = 0; i < ROWS_AT_ONCE; i++) {
                LOAD(sum_even[i], p->bias + t * LANES);
                LOAD(sum_odd[i], p->bias + (t + 1) * LANES);
            }
            for (ptrdiff_t f = 0; f < p->features; f++) {
                LOAD(w, even + f * LANES);
                LOAD(v, odd + f * LANES);
                for (ptrdiff_t i = 0; i < ROWS_AT_ONCE; i++) {
                    sum_even[i] += x[i][f] * w;
                    sum_odd[i] += x[i][f] * v;
                }
            }
            LOAD(w, p->out + t * LANES);
            LOAD(v, p->out + (t + 1) * LANES);
            for (ptrdiff_t i = 0; i < ROWS_AT_ONCE; i++) {
                rectified[i] += (lanes)((lane_mask)sum_even[i] & (sum_even[i] > zero)) * w;
                rectified[i] += (lanes)((lane_mask)sum_odd[i] & (sum_odd[i] > zero)) * v;
            }
        }
        for (ptrdiff_t i = 0; i < ROWS_AT_ONCE && r + i < rows; i++)
            scores[r + i] = linear[i] + SUM(rectified[i]);
    }
}

/* What each group of features adds: the score less what it would be with the group at its neutral values.
   contributions [count, groups] of the rows of `table` whose numbers stand in `which`. */
FOR_EACH_WIDTH
static void contribution_rows(
    const perceptron *p, const float *table, const int32_t *which, ptrdiff_t count, float *contributions)
{
    const lanes zero = {0};
    float x[FEATURES_MAX], hidden[HIDDEN_MAX];
    for (ptrdiff_t r = 0; r < count; r++) {
        float linear = standardise(p, table + which[r] * p->features, x), whole;
        lanes rectified = {0};
        for (ptrdiff_t t = 0; t < p->tiles; t++) {
            const float *block = p->hidden + t * p->features * LANES;
            lanes w, sum;
            LOAD(sum, p->bias + t * LANES);
            for (ptrdiff_t f = 0; f < p->features; f++) {
                LOAD(w, block + f * LANES);
                sum += x[f] * w;
            }
            STORE(hidden + t * LANES, sum);
            LOAD(w, p->out + t * LANES);
            rectified += (lanes)((lane_mask)sum & (sum > zero)) * w;
        }
        whole = linear + SUM(rectified);
        for (ptrdiff_t f = 0; f < p->features; f++)
            x[f] = p->neutral[f] - x[f];
        for (ptrdiff_t g = 0; g < p->groups; g++) {
            const int32_t *group = p->grouped + p->group_starts[g];
            ptrdiff_t size = p->group_starts[g + 1] - p->group_starts[g];
            float less = linear;
            lanes without = {0};
            for (ptrdiff_t i = 0; i < size; i++)
                less += x[group[i]] * p->skip[group[i]];
            for (ptrdiff_t t = 0; t < p->tiles; t++) {
                const float *block = p->hidden + t * p->features * LANES;
                lanes w, sum;
                LOAD(sum, hidden + t * LANES);
                for (ptrdiff_t i = 0; i < size; i++) {
                    LOAD(w, block + group[i] * LANES);
                    sum += x[group[i]] * w;
                }
                LOAD(w, p->out + t * LANES);
                without += (lanes)((lane_mask)sum & (sum > zero)) * w;
            }
            contributions[r * p->groups + g] = whole - less - SUM(without);
        }
    }
}

#endif
