/* Ends at once if arg1 is even, else counts for long. */

#include "arguments.h"
#include "counting.h"

int main(int argc, char **argv)
{
    if (whole_number(argc, argv, INT64_MAX) % 2 == 0)
        puts("even");
    else
        count_for_long();
    return 0;
}
