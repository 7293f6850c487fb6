/* patroni_read: any HTTP answer, in pieces. What was understood stays understood, and 64 bytes are always enough. */
#include <stdlib.h>

#include "admin/patroni.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { ROOM = sizeof((Patroni *)0)->answer };
    PatroniWord word = PATRONI_SILENT, first = PATRONI_SILENT;
    bool known = false;
    for (size_t len = 0; len <= size && len <= ROOM; len++) {
        bool now = patroni_read(slice_of(data, len), &word);
        if ((known && (!now || word != first)) || (len == ROOM && !now))
            abort();
        if (now && !known)
            first = word;
        known = now;
    }
    return 0;
}
