/* The argument of a workload: a whole number, the first one on the command line. */

#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* arg1, from 0 to `most`. Anything else ends the program with a message and exit status 2. */
static inline uint64_t whole_number(int argc, char **argv, uint64_t most)
{
    const char *text = argc > 1 ? argv[1] : "";
    char *end;

    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    /* strtoull takes blanks and signs, and makes 2^64 - 5 of -5. */
    if (*text < '0' || *text > '9' || *end || errno || number > most) {
        fprintf(stderr,
                "%s: arg1 must be a whole number from 0 to %llu, got %s%s%s; give it as the first "
                "argument\n",
                argc > 0 ? argv[0] : "?", (unsigned long long)most, argc > 1 ? "'" : "nothing",
                text, argc > 1 ? "'" : "");
        exit(2);
    }
    return number;
}

#endif
