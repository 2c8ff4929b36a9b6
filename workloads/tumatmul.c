/*
 * Finds the primes up to arg1 with a sieve of Eratosthenes, and prints how many there are.
 *
 * The numbers are sieved segment by segment, so that its memory stays within a small quota: a
 * segment, and the primes up to the square root of arg1.
 */

#include "arguments.h"

#include <string.h>

#define MOST 1000000000000u
#define SEGMENT 32768u /* numbers, one byte each: they fit the first cache of most processors */
#define ROOT 1000000u  /* the square root of MOST */
#define PRIMES 78498u  /* how many primes there are up to ROOT */

static uint8_t composite[SEGMENT];
static uint32_t primes[PRIMES];
static uint64_t next_multiple[PRIMES];
static size_t known;

/* Cross out the multiples of the known primes among the numbers from `first` to `last`. */
static void cross_out(uint64_t first, uint64_t last)
{
    memset(composite, 0, sizeof composite);
    for (size_t i = 0; i < known && (uint64_t)primes[i] * primes[i] <= last; i++) {
        uint64_t multiple = next_multiple[i];

        for (; multiple <= last; multiple += primes[i])
            composite[multiple - first] = 1;
        next_multiple[i] = multiple;
    }
}

int main(int argc, char **argv)
{
    uint64_t most = whole_number(argc, argv, MOST), found = 0;

    /* A segment ends before the square of its first number, so its sieve is always complete. */
    for (uint64_t first = 2, last; first <= most; first = last + 1) {
        last = first < SEGMENT ? first * first - 1 : first + SEGMENT - 1;
        if (last - first >= SEGMENT)
            last = first + SEGMENT - 1;
        if (last > most)
            last = most;
        cross_out(first, last);
        for (uint64_t number = first; number <= last; number++) {
            if (composite[number - first])
                continue;
            found++;
            if (number <= ROOT && number * number <= most) {
                primes[known] = (uint32_t)number;
                next_multiple[known++] = number * number;
            }
        }
    }
    printf("%llu primes up to %llu\n", (unsigned long long)found, (unsigned long long)most);
    return 0;
}
