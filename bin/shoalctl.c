/*
 * shoalctl.c - the operator's command line: one console command, its answer, an exit code.
 *
 *     shoalctl show batches        the console's SHOW BATCHES as a table (--json for programs)
 *     shoalctl status              health, version and servers; exit code 1 when something is bad
 *     shoalctl top                 rates, latencies, servers, statements: a view that refreshes
 *     shoalctl reload | shutdown [wait SECONDS]
 *
 * It is an ordinary client of the database "shoal"; what it may do is what its user may do.
 */
#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include "bin/table.h"
#include "bin/top.h"
#include "bin/watch.h"

#define EXIT_REFUSED     1 /* the console answered with an error, or something is bad */
#define EXIT_UNREACHABLE 2 /* no connection */
#define STATEMENT_MAX    200

typedef struct Ctl {
    const char *host, *port, *user;
    bool json, watch;
    const char *by, *drain; /* of rebalance; NULL: not said */
    double interval_s; /* of top */
    unsigned rounds;   /* of top; 0: until interrupted */
    PGconn *conn;
} Ctl;

static bool options_read(Ctl *ctl, int argc, char **argv, int *ret_exit_code);
static bool ctl_connect(Ctl *ctl);
static int ctl_run(Ctl *ctl, const char *statement);
static int ctl_status(Ctl *ctl);
static int ctl_top(Ctl *ctl);

static void help(const char *program)
{
    printf("Talks to a running shoald.\n\n"
           "usage: %s [options] COMMAND\n\n"
           "  show WHAT               batches, pools, clients, servers, shards, tables ... (show "
           "help)\n"
           "  status                  health, version and servers; exit code 1 when something is bad\n"
           "  top                     rates, latencies, servers and statements, refreshed\n"
           "  move BUCKETS to SHARD   moves buckets (0-15,40) while everybody works, or the bucket of a key\n"
           "                          (`key TABLE KEY`), or one key's rows alone (`tenant TABLE KEY`)\n"
           "  rebalance WHAT          plan | start [by count|bytes|load] [drain SHARD]\n"
           "                          | pause | resume | cancel | rollback | finish\n"
           "  shard add SHARD         a new [shard] of shards.ini gets its schema, and joins\n"
           "  shard remove SHARD      is it empty, and what is to be done then?\n"
           "  fsck [repair]           is every row on its shard, is anything left behind?\n"
           "  reload                  read shards.ini again\n"
           "  shutdown [wait SECONDS] stop\n\n"
           "  -h, --host HOST         default: $PGHOST, else 127.0.0.1\n"
           "  -p, --port PORT         default: $PGPORT, else 6432\n"
           "  -U, --user USER         default: $PGUSER, else the system's user name\n"
           "      --by count|bytes|load, --drain SHARD\n"
           "                          the same as these words behind rebalance plan or start\n"
           "      --watch             afterwards, show moves as bars until they are over\n"
           "      --json              rows as JSON\n"
           "  -i, --interval SECONDS  of top; default 2\n"
           "  -n, --rounds COUNT      of top; default: until interrupted\n"
           "  -V, --version           say the version, and end\n"
           "      --help              say this, and end\n",
           program);
}

static bool word_add(const char *word, char *ret, size_t size)
{
    size_t at = strlen(ret);
    if (at > 0)
        ret[at++] = ' ';
    for (const char *c = word; *c; c++) {
        if ((!isalnum((unsigned char)*c) && !strchr("_ .,-", *c)) || at + 2 > size)
            return false;
        ret[at++] = *c;
    }
    ret[at] = '\0';
    return true;
}

/* A value as it was typed, capitals and all, in quotes. */
static bool word_add_quoted(const char *word, char *ret, size_t size)
{
    size_t at = strlen(ret);
    if (at + 2 * strlen(word) + 4 > size)
        return false;
    ret[at++] = ' ';
    ret[at++] = '"';
    for (const char *c = word; *c; c++) {
        if (*c == '"')
            ret[at++] = *c;
        ret[at++] = *c;
    }
    ret[at++] = '"';
    ret[at] = '\0';
    return true;
}

/* move key TABLE VALUE ...: behind the table. */
static bool is_value(char *const *words, int i)
{
    return i >= 3 && strcasecmp(words[0], "move") == 0 &&
           (strcasecmp(words[1], "key") == 0 || strcasecmp(words[1], "tenant") == 0);
}

/* The command's words as one statement. False when there is something else than words in it. */
static bool statement_make(const Ctl *ctl, char *const *words, int count, char *ret, size_t size)
{
    bool ok = count > 0;
    ret[0] = '\0';
    for (int i = 0; i < count; i++)
        ok = ok && (is_value(words, i) ? word_add_quoted : word_add)(words[i], ret, size);
    if (ctl->by)
        ok = ok && word_add("by", ret, size) && word_add(ctl->by, ret, size);
    if (ctl->drain)
        ok = ok && word_add("drain", ret, size) && word_add(ctl->drain, ret, size);
    return ok && *ret;
}

int main(int argc, char **argv)
{
    Ctl ctl = {.interval_s = 2, .host = getenv("PGHOST") ? NULL : "127.0.0.1",
               .port = getenv("PGPORT") ? NULL : "6432"};
    char statement[STATEMENT_MAX];
    int exit_code;
    if (!options_read(&ctl, argc, argv, &exit_code))
        return exit_code;
    if (!statement_make(&ctl, argv + optind, argc - optind, statement, sizeof statement)) {
        fprintf(stderr, "%s: a command is made of words; --help lists them\n", argv[0]);
        return EX_USAGE;
    }
    if (!ctl_connect(&ctl)) {
        fprintf(stderr, "%s: %s", argv[0], PQerrorMessage(ctl.conn));
        exit_code = EXIT_UNREACHABLE;
    } else if (strcmp(statement, "status") == 0) {
        exit_code = ctl_status(&ctl);
    } else if (strcmp(statement, "top") == 0) {
        exit_code = ctl_top(&ctl);
    } else {
        exit_code = ctl_run(&ctl, statement);
    }
    bool failed = false;
    if (ctl.watch && exit_code == EX_OK && (!watch_moves(ctl.conn, &failed) || failed))
        exit_code = EXIT_REFUSED;
    PQfinish(ctl.conn);
    return exit_code;
}

static bool options_read(Ctl *ctl, int argc, char **argv, int *ret_exit_code)
{
    enum { OPT_JSON = 256, OPT_WATCH, OPT_HELP, OPT_BY, OPT_DRAIN };
    static const struct option LONG_OPTIONS[] = {{"host", required_argument, NULL, 'h'},
                                                 {"port", required_argument, NULL, 'p'},
                                                 {"user", required_argument, NULL, 'U'},
                                                 {"json", no_argument, NULL, OPT_JSON},
                                                 {"watch", no_argument, NULL, OPT_WATCH},
                                                 {"by", required_argument, NULL, OPT_BY},
                                                 {"drain", required_argument, NULL, OPT_DRAIN},
                                                 {"interval", required_argument, NULL, 'i'},
                                                 {"rounds", required_argument, NULL, 'n'},
                                                 {"version", no_argument, NULL, 'V'},
                                                 {"help", no_argument, NULL, OPT_HELP},
                                                 {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "h:p:U:i:n:V", LONG_OPTIONS, NULL)) != -1) {
        switch (option) {
        case 'h':
            ctl->host = optarg;
            break;
        case 'p':
            ctl->port = optarg;
            break;
        case 'U':
            ctl->user = optarg;
            break;
        case 'i':
            ctl->interval_s = strtod(optarg, NULL);
            if (!(ctl->interval_s >= 0.1 && ctl->interval_s <= 3600)) {
                fprintf(stderr, "%s: --interval takes 0.1 to 3600 seconds\n", argv[0]);
                *ret_exit_code = EX_USAGE;
                return false;
            }
            break;
        case 'n':
            ctl->rounds = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case OPT_JSON:
            ctl->json = true;
            break;
        case OPT_WATCH:
            ctl->watch = true;
            break;
        case OPT_BY:
            ctl->by = optarg;
            break;
        case OPT_DRAIN:
            ctl->drain = optarg;
            break;
        case 'V':
            printf("shoalctl %s\n", SHOAL_VERSION);
            *ret_exit_code = EX_OK;
            return false;
        case OPT_HELP:
            help(argv[0]);
            *ret_exit_code = EX_OK;
            return false;
        default:
            *ret_exit_code = EX_USAGE;
            return false;
        }
    }
    return true;
}

static bool ctl_connect(Ctl *ctl)
{
    const char *names[] = {"host", "port", "user", "dbname", "application_name", "connect_timeout",
                           NULL};
    const char *values[] = {ctl->host, ctl->port, ctl->user, "shoal", "shoalctl", "10", NULL};
    ctl->conn = PQconnectdbParams(names, values, 0);
    return PQstatus(ctl->conn) == CONNECTION_OK;
}

static bool rows_print(const Ctl *ctl, const PGresult *rows)
{
    if (ctl->json)
        return table_print_json(stdout, rows);
    table_print(stdout, rows);
    return true;
}

/* NULL when the console refused; what it said was written. */
static PGresult *ctl_ask(Ctl *ctl, const char *statement)
{
    PGresult *result = PQexec(ctl->conn, statement);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY)
        return result;
    fprintf(stderr, "%s", PQerrorMessage(ctl->conn));
    PQclear(result);
    return NULL;
}

static int ctl_run(Ctl *ctl, const char *statement)
{
    PGresult *result = ctl_ask(ctl, statement);
    if (!result)
        return EXIT_REFUSED;
    bool ok = true;
    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        ok = rows_print(ctl, result);
    else
        printf("%s\n", PQcmdStatus(result));
    PQclear(result);
    return ok ? EX_OK : EX_OSERR;
}

/* What is not well, one line each. True when none of it is bad. */
static bool health_print(const Ctl *ctl, const PGresult *health)
{
    bool bad = false, any = false;
    for (int i = 0; i < PQntuples(health); i++) {
        const char *state = PQgetvalue(health, i, 1);
        bad |= strcmp(state, "bad") == 0;
        if (strcmp(state, "ok") == 0 || ctl->json)
            continue;
        any = true;
        printf("%s: %s: %s\n", state, PQgetvalue(health, i, 0), PQgetvalue(health, i, 2));
    }
    if (!any && !ctl->json)
        printf("everything is well\n");
    return !bad;
}

static int ctl_status(Ctl *ctl)
{
    PGresult *health = ctl_ask(ctl, "SHOW HEALTH");
    PGresult *shards = health ? ctl_ask(ctl, "SHOW SHARDS") : NULL;
    PGresult *version = shards ? ctl_ask(ctl, "SHOW VERSION") : NULL;
    int exit_code = EXIT_REFUSED;
    if (version) {
        if (!ctl->json && PQntuples(version) == 1)
            printf("%s, started %s, %s workers\n", PQgetvalue(version, 0, 0),
                   PQgetvalue(version, 0, 1), PQgetvalue(version, 0, 2));
        exit_code = health_print(ctl, health) ? EX_OK : EXIT_REFUSED;
        if (!ctl->json)
            putchar('\n');
        if (!rows_print(ctl, shards))
            exit_code = EX_OSERR;
        int state = PQfnumber(shards, "state");
        for (int i = 0; exit_code == EX_OK && state >= 0 && i < PQntuples(shards); i++) {
            if (strcmp(PQgetvalue(shards, i, state), "up") != 0)
                exit_code = EXIT_REFUSED;
        }
    }
    PQclear(health);
    PQclear(version);
    PQclear(shards);
    return exit_code;
}

static int ctl_top(Ctl *ctl)
{
    if (top_run(ctl->conn, ctl->interval_s, ctl->rounds))
        return EX_OK;
    fprintf(stderr, "%s", PQerrorMessage(ctl->conn));
    return PQstatus(ctl->conn) == CONNECTION_OK ? EXIT_REFUSED : EXIT_UNREACHABLE;
}
