/*
 * reads.c - why this file exists: each read asks "who may answer me, and who should?", and the answer
 * must cost less than the read.
 *
 *     1  has the shard replicas, and is anything but strong promised?     most requests end here
 *     2  may the statement go at all?                                      read_rules.c, tree and catalog
 *     3  who keeps the promise?        standings (control thread), breakers (own reads)
 *     4  who is best?                  balance.c
 */
#include "router/reads.h"

#include <stdlib.h>

#include "core/clock.h"
#include "router/worker_state.h"

#define LATENCY_FORGET_US ((uint64_t)1000 * 1000) /* half of a latency that nobody has measured again */

Reads *reads_create(Worker *worker)
{
    const Config *config = worker_config(worker);
    Reads *reads = calloc(1, sizeof *reads);
    if (!reads)
        return NULL;
    reads->worker = worker;
    if (config->retry_max) /* the first of all may be the one that is lost */
        reads->reruns.saved = BUDGET_SAVED_MAX;
    list_init(&reads->active);
    timer_init(&reads->timer, &worker->loop, reads_on_time, reads);
    if (!reads_grow(reads, config)) {
        reads_destroy(reads);
        return NULL;
    }
    return reads;
}

bool reads_grow(Reads *reads, const Config *config)
{
    uint32_t servers = MAX(config->server_count, reads->server_count);
    uint32_t shards = MAX(config->shard_count, reads->shard_count);
    if (reads->servers && servers == reads->server_count && shards == reads->shard_count)
        return true;
    ReadServer *more_servers = realloc(reads->servers, MAX(servers, 1) * sizeof *more_servers);
    reads->servers = more_servers ? more_servers : reads->servers;
    ReadShard *more_shards = realloc(reads->shards, MAX(shards, 1) * sizeof *more_shards);
    reads->shards = more_shards ? more_shards : reads->shards;
    if (!more_servers || !more_shards)
        return false;
    for (; reads->server_count < servers; reads->server_count++) {
        reads->servers[reads->server_count] = (ReadServer){0};
        breaker_init(&reads->servers[reads->server_count].breaker);
    }
    for (; reads->shard_count < shards; reads->shard_count++) {
        ReadShard *shard = &reads->shards[reads->shard_count];
        *shard = (ReadShard){0};
        uint64_t seed = clock_now_us() * 31 + reads->worker->options.index + reads->shard_count;
        balancer_init(&shard->balancer, seed);
        balancer_init(&shard->again, seed * 31);
        quantile_init(&shard->quantile);
    }
    return true;
}

void reads_destroy(Reads *reads)
{
    if (!reads)
        return;
    timer_stop(&reads->timer);
    free(reads->servers);
    free(reads->shards);
    free(reads);
}

BreakerLimits reads_breaker_limits(const Reads *reads)
{
    const Config *config = worker_config(reads->worker);
    return (BreakerLimits){.failure_percent = config->breaker_failures,
                           .slow_us = (uint64_t)config->breaker_slow_ms * 1000,
                           .open_us = (uint64_t)config->breaker_open_ms * 1000};
}

/* ---- what was promised ----------------------------------------------------------------------------- */

static Slice hint_of(const Request *request)
{
    return request->last_reading ? request->last_reading->hint : (Slice){0};
}

static void wish_add(ReadWish *wish, ReadConsistency consistency, uint32_t max_lag_ms)
{
    if (wish->consistency == READ_DEFAULT)
        wish->consistency = consistency;
    if (!wish->max_lag_ms)
        wish->max_lag_ms = max_lag_ms;
}

/* What the session has said, by SET LOCAL or SET. */
static void wish_add_said(ReadWish *wish, const ReadWish *said)
{
    wish_add(wish, said->consistency, said->max_lag_ms);
    wish->copies = wish->copies ? wish->copies : said->copies;
    if (wish->deadline_ms || wish->deadline_percent)
        return;
    wish->deadline_ms = said->deadline_ms;
    wish->deadline_percent = said->deadline_percent;
    wish->late_stale |= said->late_stale;
}

static ReadWish wish_of(const Request *request)
{
    const Session *session = request->session;
    const Config *config = worker_config(session->worker);
    const DatabaseConfig *database = session_database(session, session->worker->topology);
    Slice hint = hint_of(request);
    ReadWish wish = {0};
    if (hint.len)
        wish = consistency_read_hint(hint);
    wish_add_said(&wish, &session->reads.local);
    wish_add_said(&wish, &session->reads.wish);
    if (wish.consistency == READ_DEFAULT) {
        const UserConfig *user = config_user(config, slice_str(session->user));
        if (user)
            wish_add(&wish, user->read_consistency, 0);
    }
    wish_add(&wish, database->read_consistency, database->max_lag_ms);
    wish_add(&wish, config->read_consistency, config->max_lag_ms);
    if (wish.consistency == READ_DEFAULT)
        wish.consistency = READ_STRONG;
    return wish;
}

/* [table NAME] copies: of the tables that it reads the one that has most. */
static uint32_t table_copies(const Request *request)
{
    const Session *session = request->session;
    const Topology *topology = session->worker->topology;
    const Catalog *catalog = topology->catalogs[session->database_index];
    Slice path = session_search_path(session, topology), user = slice_str(session->user);
    uint32_t copies = 0;
    for (uint32_t i = 0; i < request->planned_count; i++) {
        const Shape *shape = request->planned[i].shape;
        for (uint32_t k = 0; k < shape->table_count; k++) {
            ShapeName name = shape->tables[k].name;
            const CatalogTable *table = catalog_resolve_table(catalog, name.schema, name.name, path, user);
            const TableConfig *section =
                table ? config_table(topology->config, session_database(session, topology)->name, table->schema,
                                     table->name)
                      : NULL;
            copies = section ? MAX(copies, section->copies) : copies;
        }
    }
    return copies;
}

static uint32_t copies_of(const Request *request, const ReadWish *wish)
{
    const Config *config = worker_config(request->session->worker);
    uint32_t copies = wish->copies;
    if (!copies && config->table_copies)
        copies = table_copies(request);
    return copies ? copies : config->copies;
}

static ReadPromise promise_of(const Request *request, const ReadWish *wish, uint32_t shard)
{
    const Session *session = request->session;
    ReadPromise promise = {.consistency = wish->consistency,
                           .max_lag_us = (uint64_t)wish->max_lag_ms * 1000,
                           .max_lag_bytes = worker_config(session->worker)->max_lag_bytes,
                           .map_us = session->worker->reads->map_since_us,
                           .seen_server = NO_SERVER};
    if (wish->consistency != READ_SESSION)
        return promise;
    promise.floor_us = session->reads.wrote_us;
    promise.seen_us = session->reads.saw_us;
    promise.seen_server = session->reads.saw_server;
    if (session->reads.floors && shard < session->reads.floor_count)
        promise.floor_lsn = session->reads.floors[shard];
    return promise;
}

/* ---- what may go -------------------------------------------------------------------------------------- */

static ReadRule rule_of(const Request *request)
{
    const Session *session = request->session;
    const Topology *topology = session->worker->topology;
    ReadRuleInput input = {.catalog = topology->catalogs[session->database_index],
                           .search_path = session_search_path(session, topology),
                           .user = slice_str(session->user),
                           .path_unknown = session->path_unknown || session->path_local};
    if (session->pinned || session->temporary || request->pins || request->series || request->flushed || !request->complete ||
        request->local_error || request->planned_count == 0)
        return READ_RULE_STATE;
    for (uint32_t i = 0; i < request->planned_count; i++) {
        if (!request->planned[i].executed)
            return READ_RULE_STATE; /* a portal stays open, or nothing is read at all */
        input.shape = request->planned[i].shape;
        ReadRule rule = read_rule(&input);
        if (rule != READ_MAY_GO)
            return rule;
    }
    return READ_MAY_GO;
}

/* BEGIN READ ONLY: the whole transaction goes to the server that this one goes to. */
static bool begins_read_only(const Request *request)
{
    const Session *session = request->session;
    if (request->planned_count != 1 || !request->planned[0].executed || session->pinned || request->series ||
        request->flushed || request->local_error)
        return false;
    const GucEntry *isolation =
        guc_find(session_gucs(session), SLICE("default_transaction_isolation"));
    const Catalog *catalog = session->worker->topology->catalogs[session->database_index];
    if (!isolation && catalog->isolation_unusual && !request->planned[0].shape->setting_value.len)
        return false;
    return read_rule_begin(request->planned[0].shape, isolation ? isolation->value : (Slice){0});
}

/* ---- who may, who should --------------------------------------------------------------------------- */

uint64_t reads_latency_us(const ReadServer *server, uint64_t now_us)
{
    uint64_t halves = (now_us - server->latency_at_us) / LATENCY_FORGET_US;
    return halves < 63 ? server->latency_us >> halves : 0;
}

static uint64_t latency_now(const ReadServer *server, uint64_t now_us)
{
    return server->samples >= READ_SAMPLES_MIN ? reads_latency_us(server, now_us) : 0;
}

static bool same_zone(const Config *config, const ServerConfig *server)
{
    return config->zone && server->zone && strcmp(config->zone, server->zone) == 0;
}

typedef struct Choice {
    BalanceCandidate candidates[BALANCE_SERVERS_MAX];
    uint32_t servers[BALANCE_SERVERS_MAX]; /* by candidate: server index */
    uint32_t count;
    ReadRefusal refusal; /* of the one that was nearest to being allowed */
} Choice;

/* Place in the shard: 0 the primary of the file, then its replicas. */
static void choice_offer(Reads *reads, const Read *read, const ServerConfig *server, uint32_t place,
                         uint64_t now_us, Choice *choice)
{
    const Topology *topology = reads->worker->topology;
    const Config *config = topology->config;
    if (topology->primaries[read->shard] == server->index || (read->tried >> place & 1))
        return;
    ServerStanding standing = standing_get(topology->standings, server->index);
    ReadServer *own = &reads->servers[server->index];
    ReadRefusal refusal =
        consistency_check(&read->promise, &standing, server->index, now_us,
                          (uint64_t)config->lag_check_ms * 5000 + 500000);
    if (refusal == READ_ALLOWED && config->breaker && !breaker_allows(&own->breaker, now_us))
        refusal = READ_BROKEN;
    choice->refusal = MAX(choice->refusal, refusal);
    if (refusal != READ_ALLOWED)
        return;
    choice->servers[choice->count] = server->index;
    choice->candidates[choice->count++] =
        (BalanceCandidate){.server = place,
                           .weight = server->weight,
                           .inflight = own->inflight,
                           .latency_us = latency_now(own, now_us),
                           .distance_us = standing.latency_us,
                           .same_zone = same_zone(config, server)};
}

/* Its place among the candidates, if it still is one. Asking the balancer twice for one read would turn
 * its turns into half turns: with two servers all reads would go to one of them. */
static uint32_t choice_kept(const Choice *choice, const Read *read)
{
    for (uint32_t i = 0; i < choice->count; i++)
        if (choice->servers[i] == read->kept)
            return i;
    return choice->count;
}

/* A second question has turns of its own: two for each read would, with an even number of servers, bring
 * the same ones together each time, and one of them might never be asked. */
static uint32_t choice_best(Reads *reads, const Read *read, const Choice *choice)
{
    ReadShard *shard = &reads->shards[read->shard];
    BalancePolicy policy = worker_config(reads->worker)->balance;
    if (!read->tried)
        return balance_choose(&shard->balancer, policy, choice->candidates, choice->count, read->key);
    if (policy == BALANCE_ROUND_ROBIN || policy == BALANCE_WEIGHTED)
        policy = BALANCE_HOT_COLD;
    return balance_choose(&shard->again, policy, choice->candidates, choice->count, read->key);
}

uint32_t reads_choose(Reads *reads, Read *read, ReadRefusal *ret_refusal)
{
    const Config *config = worker_config(reads->worker);
    const ShardConfig *shard = &config->shards[read->shard];
    uint64_t now_us = clock_now_us(); /* the loop's own may be from before a stop of the process */
    Choice choice;
    choice.count = 0;
    choice.refusal = READ_ALLOWED;
    choice_offer(reads, read, shard->primary, 0, now_us, &choice);
    for (uint32_t i = 0; i < shard->replica_count && i + 1 < BALANCE_SERVERS_MAX; i++)
        choice_offer(reads, read, shard->replicas[i], i + 1, now_us, &choice);
    *ret_refusal = choice.count ? READ_ALLOWED : choice.refusal;
    if (!choice.count)
        return NO_SERVER;
    uint32_t best = choice_kept(&choice, read);
    if (best == choice.count)
        best = choice_best(reads, read, &choice);
    read->tried |= UINT64_C(1) << choice.candidates[best].server;
    return choice.servers[best];
}

Pool *reads_server_pool(Request *request, uint32_t server)
{
    Session *session = request->session;
    const Config *config = worker_config(session->worker);
    return pool_get(session->worker->pools, config->servers[server],
                    session_database(session, session->worker->topology),
                    config_user(config, slice_str(session->user)), slice_str(session->user));
}

/* ---- the way of one request ------------------------------------------------------------------------- */

/* Whom the batcher was offered for, in vain. */
static uint32_t kept_server(const Request *request)
{
    const Read *read = request->read;
    bool asked = read && !read->started_us && read->attempt_count == 1 && !read->attempts[0].fallback;
    return asked ? read->attempts[0].server : NO_SERVER;
}

static uint64_t deadline_of(const Request *request, const ReadWish *wish, uint32_t shard)
{
    const Reads *reads = request->session->worker->reads;
    uint64_t after_us = (uint64_t)wish->deadline_ms * 1000;
    if (wish->deadline_percent)
        after_us = quantile_at_us(&reads->shards[shard].quantile, wish->deadline_percent);
    return after_us ? clock_now_us() + after_us : 0;
}

static Read *read_create(Request *request, uint32_t shard, const ReadWish *wish, bool whole_transaction)
{
    uint32_t kept = kept_server(request);
    Read *read = arena_new(&request->arena, Read);
    if (!read)
        return NULL;
    *read = (Read){.request = request,
                   .shard = shard,
                   .promise = promise_of(request, wish, shard),
                   .kept = kept,
                   .may_hedge = !whole_transaction,
                   .copies = whole_transaction ? 0 : copies_of(request, wish),
                   .deadline_us = whole_transaction ? 0 : deadline_of(request, wish, shard),
                   .late_stale = wish->late_stale};
    list_init(&read->link);
    const PlanStatement *first = &request->planned[0];
    read->key = slice_hash(first->text, 1) + (first->bind ? slice_hash(first->bind->params, 1) : 0);
    return read;
}

/* For want of a replica the primary answers, but never more than it can bear (H82). A session that has
 * just written something reads it there as a matter of course. */
static bool primary_bears(Reads *reads, ReadRefusal refusal)
{
    if (refusal == READ_BEFORE_WRITE || refusal == READ_BEFORE_SEEN || refusal == READ_BEFORE_MOVE)
        return true;
    const Config *config = worker_config(reads->worker);
    uint32_t workers = MAX(reads->worker->options.count, 1);
    return reads->primary_reads < (config->primary_reads_max + workers - 1) / workers;
}

static bool refuse(Request *request, Reads *reads, uint32_t shard, ReadRefusal refusal, Error *err)
{
    if (request->not_batched) /* else it comes again, to go alone */
        counter_add(&reads->refused, 1);
    error_set(err, SQLSTATE_TOO_MANY_CONNECTIONS, "no replica may answer this read, and the primary is taking "
              "%u of them already", reads->primary_reads);
    error_detail(err, "Shard %s: replicas are %s.", worker_config(reads->worker)->shards[shard].name,
                 refusal == READ_ALLOWED ? "not there" : read_refusal_text(refusal));
    error_hint(err, "SHOW REPLICAS tells why. Raise primary_reads_max, or ask for less (max_lag, eventual).");
    return false;
}

static Pool *primary_pool(Request *request, uint32_t shard)
{
    const ServerConfig *primary = doubt_primary(request->session->worker, shard);
    return primary ? reads_server_pool(request, primary->index) : NULL;
}

/* More than strong is promised: a replica, if the statement may go and one keeps the promise. */
static bool route_read(Request *request, uint32_t shard, const ReadWish *wish, Pool **ret_pool, Error *err)
{
    Reads *reads = request->session->worker->reads;
    const DatabaseConfig *database = session_database(request->session, request->session->worker->topology);
    bool begins = request->session->tx == TX_IDLE && begins_read_only(request);
    ReadRule rule = begins ? READ_MAY_GO : rule_of(request);
    bool joins = request->session->tx != TX_IDLE; /* a shard joins a transaction that has begun elsewhere */
    if (joins)
        rule = !request->session->reads.tx_read_only ? READ_RULE_KIND : database->shard_count == 1 ? READ_MAY_GO : rule;
    request->read_rule = (int)rule;
    *ret_pool = primary_pool(request, shard);
    Read *read = rule == READ_MAY_GO ? read_create(request, shard, wish, begins || joins) : NULL;
    request->read = NULL;
    if (!read)
        return true;
    ReadRefusal refusal;
    uint32_t server = reads_choose(reads, read, &refusal);
    bool fallback = server == NO_SERVER;
    if (fallback && !primary_bears(reads, refusal))
        return refuse(request, reads, shard, refusal, err);
    if (fallback && !*ret_pool)
        return true; /* there is no primary either: it waits for one */
    if (fallback)
        server = request->session->worker->topology->primaries[shard];
    Pool *pool = fallback ? *ret_pool : reads_server_pool(request, server);
    if (!pool)
        return true;
    *ret_pool = pool;
    bool want = refusal != READ_BEFORE_WRITE && refusal != READ_BEFORE_SEEN && refusal != READ_BEFORE_MOVE;
    request->read = read;
    read_start(read, server, fallback && want);
    if (fallback)
        counter_add(&reads->fallbacks, 1);
    return true;
}

bool reads_route(Request *request, uint32_t shard, Pool **ret_pool, Error *err)
{
    const Config *config = worker_config(request->session->worker);
    request->read_rule = -1;
    const Reads *reads = request->session->worker->reads;
    if (config->shards[shard].replica_count && shard < reads->shard_count) {
        ReadWish wish = wish_of(request);
        if (wish.consistency != READ_STRONG)
            return route_read(request, shard, &wish, ret_pool, err);
    }
    request->read = NULL;
    *ret_pool = primary_pool(request, shard);
    return true;
}

/* ---- what was fetched ahead --------------------------------------------------------------------------- */

/* The primary, asked now, has all that was acknowledged before. */
ReadOrigin reads_origin(const Request *request)
{
    const Session *session = request->session;
    const Topology *topology = session->worker->topology;
    const Read *read = request->read;
    uint64_t now_us = clock_now_us();
    ReadOrigin origin = {.server = NO_SERVER,
                         .standing = {.state = HEALTH_UP, .in_recovery = true, .measured_us = now_us, .fresh_us = now_us}};
    uint32_t server = read ? read->attempts[0].server : NO_SERVER;
    if (!read || server == topology->primaries[read->shard])
        return origin;
    return (ReadOrigin){.server = server, .standing = standing_get(topology->standings, server)};
}

/* A session that was promised to go on from what it has seen is not answered from before that; and how many bytes the
 * primary has written since, nobody knows. */
bool reads_origin_keeps(const Request *request, const ReadOrigin *origin)
{
    const Read *read = request->read;
    if (!read)
        return origin->server == NO_SERVER;
    bool open = read->promise.consistency == READ_BOUNDED || read->promise.consistency == READ_EVENTUAL;
    return open && !read->promise.max_lag_bytes &&
           consistency_check(&read->promise, &origin->standing, origin->server, clock_now_us(), UINT64_MAX / 2) ==
               READ_ALLOWED;
}

Pool *reads_origin_pool(Request *request, const ReadOrigin *origin)
{
    return origin->server == NO_SERVER ? primary_pool(request, request->shard)
                                       : reads_server_pool(request, origin->server);
}

/* ---- legs ------------------------------------------------------------------------------------------- */

bool reads_leg_may_leave(const Request *request, uint32_t shard)
{
    const Session *session = request->session;
    return session->tx == TX_IDLE && worker_config(session->worker)->shards[shard].replica_count &&
           wish_of(request).consistency != READ_STRONG && rule_of(request) == READ_MAY_GO;
}

bool reads_leg_begin(Request *request, uint32_t shard, LegRead *ret, Error *err)
{
    Session *session = request->session;
    Reads *reads = session->worker->reads;
    const Config *config = worker_config(session->worker);
    *ret = (LegRead){.started_us = clock_now_us()};
    if (!config->shards[shard].replica_count || shard >= reads->shard_count || session->tx != TX_IDLE || session->implicit)
        return true;
    ReadWish wish = wish_of(request);
    ReadRule rule = wish.consistency == READ_STRONG ? READ_RULE_KIND : rule_of(request);
    Read *read = rule == READ_MAY_GO ? read_create(request, shard, &wish, true) : NULL;
    if (!read)
        return true;
    ReadRefusal refusal;
    uint32_t server = reads_choose(reads, read, &refusal);
    if (server == NO_SERVER) {
        if (!primary_bears(reads, refusal))
            return refuse(request, reads, shard, refusal, err);
        ret->fallback = true;
        reads->primary_reads++;
        counter_add(&reads->fallbacks, 1);
        return true;
    }
    ret->pool = reads_server_pool(request, server);
    if (!ret->pool)
        return true;
    ret->server = server;
    budget_earn(&reads->reruns, config->retry_max);
    reads->servers[server].inflight++;
    counter_add(&reads->servers[server].reads, 1);
    breaker_begin(&reads->servers[server].breaker);
    return true;
}

bool reads_leg_again(Worker *worker, const LegRead *leg, bool primary_only, ReadDenial *ret_denial)
{
    Reads *reads = worker->reads;
    const Config *config = worker_config(worker);
    *ret_denial = (ReadDenial){.asked = 1, .server = config->servers[leg->server]->name, .retry_percent = config->retry_max};
    if (!primary_only && !budget_spend(&reads->reruns)) {
        ret_denial->reason = READ_DENIED_BUDGET;
        return false;
    }
    counter_add(&reads->servers[leg->server].reruns, 1);
    return true;
}

void reads_leg_end(Worker *worker, LegRead *leg, bool ok)
{
    Reads *reads = worker->reads;
    reads->primary_reads -= leg->fallback;
    leg->fallback = false;
    if (!leg->pool)
        return;
    BreakerLimits limits = reads_breaker_limits(reads);
    limits.slow_us = 0; /* how long it takes is its client's business too */
    ReadServer *server = &reads->servers[leg->server];
    uint64_t now_us = clock_now_us();
    server->inflight--;
    counter_add(&server->failures, !ok);
    breaker_end(&server->breaker, &limits, now_us, ok, now_us - leg->started_us);
    leg->pool = NULL;
}

bool reads_wait_turn(const Request *request)
{
    const Session *session = request->session;
    const Config *config = worker_config(session->worker);
    const DatabaseConfig *database = session_database(session, session->worker->topology);
    bool replicas = false;
    for (uint32_t i = 0; i < database->shard_count; i++)
        replicas |= config->shards[database->shards[i]].replica_count > 0;
    return replicas && wish_of(request).consistency == READ_SESSION;
}

/* ---- what the session has written and seen ------------------------------------------------------------ */

/* Statements that cannot have written, and have seen nothing. */
static bool is_harmless(const Shape *shape)
{
    switch (shape->kind) {
    case SHAPE_EMPTY:
    case SHAPE_BEGIN:
    case SHAPE_SAVEPOINT:
    case SHAPE_RELEASE:
    case SHAPE_ROLLBACK:
    case SHAPE_ROLLBACK_TO:
    case SHAPE_SET:
    case SHAPE_SET_LOCAL:
    case SHAPE_RESET:
    case SHAPE_RESET_ALL:
    case SHAPE_SHOW:
    case SHAPE_DEALLOCATE:
        return true;
    default:
        return false;
    }
}

static bool may_have_written(const Request *request)
{
    if (request->series)
        return true; /* its parts are not looked at one by one */
    for (uint32_t i = 0; i < request->planned_count; i++)
        if (!is_harmless(request->planned[i].shape))
            return true;
    return false;
}

/* Where all is that the session has seen. Lookups that travel in batches may be under way together, each on the
 * server that could go on from where the session was when it was asked: what two of them have seen on two servers
 * is on neither for certain, only on who has all there was by now. */
static uint32_t seen_where(const SessionReads *reads, const Read *read)
{
    const ReadPromise *promise = &read->promise;
    uint32_t server = read->winner->server;
    bool goes_on = promise->consistency == READ_SESSION && promise->seen_us == reads->saw_us &&
                   promise->seen_server == reads->saw_server;
    return goes_on || !reads->saw_us || server == reads->saw_server ? server : NO_SERVER;
}

void reads_note_end(Request *request, char tx_status)
{
    SessionReads *reads = &request->session->reads;
    const Read *read = request->read;
    if (request->read_rule >= 0)
        counter_add(&request->session->worker->reads->rules[request->read_rule], 1);
    uint64_t now_us = clock_now_us();
    if (read && read->winner) {
        reads->saw_server = seen_where(reads, read);
        reads->saw_us = now_us;
        reads->tx_replica |= tx_status != TX_IDLE && !read->winner->fallback;
    } else if (reads->tx_replica) {
        reads->saw_us = now_us; /* a statement of a READ ONLY transaction there, or its end */
    } else if (may_have_written(request)) {
        reads->wrote_us = reads->saw_us = now_us; /* on the primary; whatever it did there */
        reads->saw_server = NO_SERVER;
    } else if (tx_status == TX_BLOCK && request->planned_count == 1 && begins_read_only(request)) {
        reads->tx_read_only = true; /* answered here: the shards join when they are needed */
    }
    if (tx_status == TX_IDLE) {
        reads->tx_replica = reads->tx_read_only = false;
        reads->local = (ReadWish){0};
    }
}
