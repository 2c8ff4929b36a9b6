/* Never ends, and does nothing: it sleeps until it is killed. Arguments are ignored. */

#include <unistd.h>

int main(void)
{
    for (;;)
        pause();
}
