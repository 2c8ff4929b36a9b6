/* Prints a greeting and ends. Arguments are ignored. */

#include <stdio.h>

int main(void)
{
    puts("namaste");
    return 0;
}
