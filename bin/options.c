/* options.c - shoald's command line; see docs/man/shoald.8. */
#include "bin/options.h"

#include <getopt.h>
#include <stdio.h>

enum { OPT_CHECK = 256, OPT_MARKDOWN, OPT_FOREGROUND, OPT_FAILPOINTS };

static const struct option LONG_OPTIONS[] = {{"config", required_argument, NULL, 'c'},
                                             {"check-config", no_argument, NULL, OPT_CHECK},
                                             {"settings-markdown", no_argument, NULL, OPT_MARKDOWN},
                                             {"foreground", no_argument, NULL, OPT_FOREGROUND},
                                             {"failpoints", no_argument, NULL, OPT_FAILPOINTS},
                                             {"version", no_argument, NULL, 'V'},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};

bool options_read(int argc, char **argv, Options *ret)
{
    *ret = (Options){.what = OPTIONS_RUN, .config_path = "shards.ini"};
    int option;
    while ((option = getopt_long(argc, argv, "c:Vh", LONG_OPTIONS, NULL)) != -1) {
        switch (option) {
        case 'c':
            ret->config_path = optarg;
            break;
        case OPT_CHECK:
            ret->what = OPTIONS_CHECK_CONFIG;
            break;
        case OPT_MARKDOWN:
            ret->what = OPTIONS_SETTINGS_MARKDOWN;
            break;
        case OPT_FAILPOINTS:
            ret->what = OPTIONS_FAILPOINTS;
            break;
        case OPT_FOREGROUND: /* there is no other way to run */
            break;
        case 'V':
            ret->what = OPTIONS_VERSION;
            break;
        case 'h':
            ret->what = OPTIONS_HELP;
            break;
        default: /* getopt has said what is wrong */
            return false;
        }
    }
    if (optind < argc)
        ret->config_path = argv[optind++];
    if (optind == argc)
        return true;
    fprintf(stderr, "%s: unexpected argument \"%s\"\n", argv[0], argv[optind]);
    return false;
}

void options_help(const char *program)
{
    printf("Shoal, a router for PostgreSQL: many small queries travel as one.\n\n"
           "usage: %s [options] [FILE]\n\n"
           "  -c, --config FILE      what to read, also without the option (default: shards.ini)\n"
           "      --check-config     say whether the file is right, and end\n"
           "      --settings-markdown  write the documentation of all settings, and end\n"
           "      --failpoints       list the places that SHOAL_FAILPOINT knows, and end (tests)\n"
           "      --foreground       stay in the foreground (the default, and the only way)\n"
           "  -V, --version          say the version, and end\n"
           "  -h, --help             say this, and end\n\n"
           "Signals: TERM and INT stop (a second one at once), HUP reads the file again.\n",
           program);
}
