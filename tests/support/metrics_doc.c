/* metrics_doc.c - writes docs/metrics.md (or what is named) from the table of metrics. */
#include <stdio.h>

#include "admin/metrics.h"

int main(int argc, char **argv)
{
    FILE *out = argc > 1 ? fopen(argv[1], "w") : stdout;
    if (!out) {
        perror(argv[1]);
        return 1;
    }
    metrics_write_markdown(out);
    return fclose(out) == 0 ? 0 : 1;
}
