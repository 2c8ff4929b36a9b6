/*
 * Solves a dense system of linear equations of order arg1, as the LINPACK benchmark does: by
 * Gaussian elimination with partial pivoting, on a random matrix whose solution is all ones.
 *
 * Prints the residual of the solution x of A x = b as the benchmark normalizes it,
 * |A x - b| / (n |A| |x| eps) in infinity norms: below 16 if the solution is right (J. Dongarra,
 * P. Luszczek and A. Petitet, "The LINPACK benchmark: past, present and future", 2003).
 */

#include "arguments.h"

#include <float.h>
#include <math.h>

#define MOST 10000u

static size_t order;

/*
 * The same numbers everywhere, between -0.5 and 0.5 (G. Marsaglia, "Xorshift RNGs", 2003): those of
 * the benchmark repeat after 16384, which makes matrices singular whose order is a power of two.
 */
static double random_number(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state / 4294967296.0 - 0.5;
}

static double *allocated(size_t count)
{
    double *numbers = calloc(count ? count : 1, sizeof *numbers);

    if (!numbers) {
        fprintf(stderr, "linpack: no memory for a system of order %zu; take a smaller arg1\n",
                order);
        exit(1);
    }
    return numbers;
}

static double largest(const double *numbers, size_t count)
{
    double most = 0;

    for (size_t i = 0; i < count; i++)
        if (fabs(numbers[i]) > most)
            most = fabs(numbers[i]);
    return most;
}

/* Fill A, row by row, and b = A * (1, 1, ... 1). */
static void make_system(double *a, double *b)
{
    uint32_t state = 1325;

    for (size_t row = 0; row < order; row++) {
        b[row] = 0;
        for (size_t column = 0; column < order; column++) {
            a[row * order + column] = random_number(&state);
            b[row] += a[row * order + column];
        }
    }
}

static void swap(double *one, double *other)
{
    double kept = *one;

    *one = *other;
    *other = kept;
}

/* Bring the row whose element in `column` is largest to the diagonal. */
static void pivot(double *a, double *b, size_t column)
{
    size_t best = column;

    for (size_t row = column + 1; row < order; row++)
        if (fabs(a[row * order + column]) > fabs(a[best * order + column]))
            best = row;
    if (best == column)
        return;
    for (size_t i = column; i < order; i++)
        swap(&a[column * order + i], &a[best * order + i]);
    swap(&b[column], &b[best]);
}

/* Solve A x = b; x replaces b, and A is used up. */
static void solve(double *a, double *b)
{
    for (size_t column = 0; column < order; column++) {
        pivot(a, b, column);
        for (size_t row = column + 1; row < order; row++) {
            double factor = a[row * order + column] / a[column * order + column];

            for (size_t i = column; i < order; i++)
                a[row * order + i] -= factor * a[column * order + i];
            b[row] -= factor * b[column];
        }
    }
    for (size_t row = order; row-- > 0;) {
        for (size_t i = row + 1; i < order; i++)
            b[row] -= a[row * order + i] * b[i];
        b[row] /= a[row * order + row];
    }
}

int main(int argc, char **argv)
{
    order = whole_number(argc, argv, MOST);
    double *a = allocated(order * order), *x = allocated(order), *residual = allocated(order);

    make_system(a, x);
    solve(a, x);
    make_system(a, residual);
    double norm = 0;
    for (size_t row = 0; row < order; row++) {
        double sum = 0;

        for (size_t column = 0; column < order; column++) {
            residual[row] -= a[row * order + column] * x[column];
            sum += fabs(a[row * order + column]);
        }
        if (sum > norm)
            norm = sum;
    }
    double unit = order * norm * largest(x, order) * DBL_EPSILON;
    printf("order %zu: normalized residual %.3f, largest x %.12f\n", order,
           order ? largest(residual, order) / unit : 0, largest(x, order));
    return 0;
}
