/* Sums arg1 terms of the Leibniz series: pi = 4 (1 - 1/3 + 1/5 - 1/7 ...). */

#include "arguments.h"

/* Up to here the denominators are exact as doubles. */
#define MOST_TERMS 1000000000000000u

int main(int argc, char **argv)
{
    uint64_t terms = whole_number(argc, argv, MOST_TERMS);
    double sum = 0, sign = 1, denominator = 1;

    for (uint64_t term = 0; term < terms; term++) {
        sum += sign / denominator;
        sign = -sign;
        denominator += 2;
    }
    printf("%.15f\n", 4 * sum);
    return 0;
}
