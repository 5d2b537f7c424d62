/* Inner loops over vectors, eight floats at a time.

   Vectors are those of the compiler (GCC, Clang), so one source serves every processor. On x86-64 GCC compiles each
   function twice and picks the wider one where the processor has AVX2; both do the same operations in the same order
   (no fused multiply-add), so a score does not depend on the machine. */

#ifndef RECSERV_LANES_H
#define RECSERV_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 8
#define FLOATS_PER_LINE 16
#define ROWS_AHEAD 6

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t lane_mask __attribute__((vector_size(LANES * sizeof(float))));

/* The choice at load time happens before a sanitizer's runtime is ready. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FOR_EACH_WIDTH __attribute__((unused, target_clones("avx2", "default")))
#else
#define FOR_EACH_WIDTH __attribute__((unused))
#endif

/* Macros and not functions: what a function takes or gives by vector depends on the target it is compiled for. */
#define LOAD(into, from) memcpy(&(into), (from), sizeof(lanes))
#define STORE(to, from) memcpy((to), &(from), sizeof(lanes))
#define SUM(v) ((((v)[0] + (v)[4]) + ((v)[1] + (v)[5])) + (((v)[2] + (v)[6]) + ((v)[3] + (v)[7])))

/* Asks for the d floats of a row that will be needed soon. */
static inline __attribute__((always_inline)) void prefetch_row(const float *row, ptrdiff_t d)
{
    for (ptrdiff_t c = 0; c < d; c += FLOATS_PER_LINE)
        __builtin_prefetch(row + c);
}

/* Dot products of `row` with a and b, all of d floats. */
FOR_EACH_WIDTH
static void two_dots(const float *row, const float *a, const float *b, ptrdiff_t d, float *with_a, float *with_b)
{
    lanes x, y, sum_a = {0}, sum_b = {0};
    float rest_a = 0, rest_b = 0;
    ptrdiff_t c = 0;
    for (; c + LANES <= d; c += LANES) {
        LOAD(x, row + c);
        LOAD(y, a + c);
        sum_a += x * y;
        LOAD(y, b + c);
        sum_b += x * y;
    }
    for (; c < d; c++) {
        rest_a += row[c] * a[c];
        rest_b += row[c] * b[c];
    }
    *with_a = SUM(sum_a) + rest_a;
    *with_b = SUM(sum_b) + rest_b;
}

/* Dot products of `query` with those of `rows` [.., d] whose numbers stand in `which`. Rows that lie all over the memory
   are asked for some turns before they are needed. */
FOR_EACH_WIDTH
static void gathered_dots(
    const float *rows, const int32_t *which, ptrdiff_t count, const float *query, ptrdiff_t d, float *out)
{
    for (ptrdiff_t r = 0; r < count; r++) {
        const float *row = rows + which[r] * d;
        lanes x, y, sum = {0}, other = {0};
        float rest = 0;
        ptrdiff_t c = 0;
        if (r + ROWS_AHEAD < count)
            prefetch_row(rows + which[r + ROWS_AHEAD] * d, d);
        for (; c + 2 * LANES <= d; c += 2 * LANES) {
            LOAD(x, row + c);
            LOAD(y, query + c);
            sum += x * y;
            LOAD(x, row + c + LANES);
            LOAD(y, query + c + LANES);
            other += x * y;
        }
        for (; c < d; c++)
            rest += row[c] * query[c];
        sum += other;
        out[r] = SUM(sum) + rest;
    }
}

/* out [width] += the sum of `values` [count] times the rows of `dense` [.., width] whose numbers stand in `columns`. */
FOR_EACH_WIDTH
static void add_scaled_rows(
    const float *dense, const int32_t *columns, const float *values, ptrdiff_t count, ptrdiff_t width, float *out)
{
    for (ptrdiff_t p = 0; p < count; p++) {
        const float *row = dense + columns[p] * width;
        lanes x, sum;
        ptrdiff_t c = 0;
        if (p + ROWS_AHEAD < count)
            prefetch_row(dense + columns[p + ROWS_AHEAD] * width, width);
        for (; c + LANES <= width; c += LANES) {
            LOAD(x, row + c);
            LOAD(sum, out + c);
            sum += values[p] * x;
            STORE(out + c, sum);
        }
        for (; c < width; c++)
            out[c] += values[p] * row[c];
    }
}

#endif
