/* What the conditional workloads do when their job is a long one. */

#ifndef COUNTING_H
#define COUNTING_H

#include <stdint.h>
#include <stdio.h>

/* Long beside the start of a process: `make calibrate` tells how long. */
#define COUNT 50000000u

static inline void count_for_long(void)
{
    volatile uint32_t counter = 0; /* volatile: the compiler must not count ahead */

    while (counter < COUNT)
        counter = counter + 1;
    printf("counted to %lu\n", (unsigned long)counter);
}

#endif
