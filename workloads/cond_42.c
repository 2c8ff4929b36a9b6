/* Ends at once if arg1 is 42, else counts for long. */

#include "arguments.h"
#include "counting.h"

int main(int argc, char **argv)
{
    if (whole_number(argc, argv, INT64_MAX) == 42)
        puts("42");
    else
        count_for_long();
    return 0;
}
