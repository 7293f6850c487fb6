/* settings_doc.c - writes docs/configuration.md (or what is named) from the settings table. */
#include <stdio.h>

#include "meta/config.h"

int main(int argc, char **argv)
{
    FILE *out = argc > 1 ? fopen(argv[1], "w") : stdout;
    if (!out) {
        perror(argv[1]);
        return 1;
    }
    config_write_markdown(out);
    return fclose(out) == 0 ? 0 : 1;
}
