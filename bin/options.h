/* options.h - shoald's command line. */
#ifndef SHOAL_BIN_OPTIONS_H
#define SHOAL_BIN_OPTIONS_H

#include "core/base.h"

typedef enum OptionsDo {
    OPTIONS_RUN,
    OPTIONS_CHECK_CONFIG,
    OPTIONS_SETTINGS_MARKDOWN,
    OPTIONS_FAILPOINTS,
    OPTIONS_VERSION,
    OPTIONS_HELP
} OptionsDo;

typedef struct Options {
    OptionsDo what;
    const char *config_path;
} Options;

/* False when the command line is wrong; what is wrong was written to stderr. */
bool options_read(int argc, char **argv, Options *ret) MUST_USE;
void options_help(const char *program);

#endif
