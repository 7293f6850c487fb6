/*
 * template.c - what is known about a statement: whether it may be batched, and how.
 *
 *     judgements   (shape, pool, gucs, types)     hit on every statement, batched or not
 *     templates    (judgement, literals)          hit only when a group is made
 *
 * Both are bounded (batch_templates_max): the longest unused one makes room, whoever travels with it.
 * Retiring takes an object and everything under it out of the maps; memory goes when the last traveller
 * is home.
 */
#include "batcher/batcher_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "batcher/hint.h"
#include "batcher/without.h"
#include "core/log.h"

/* ---- judgements ------------------------------------------------------------------------------ */

bool judgement_equal(const void *item, const void *key)
{
    const JudgementKey *a = &((const Judgement *)item)->key, *b = key;
    return a->shape == b->shape && (a->pool_id == b->pool_id || without_rule(4)) &&
           (a->gucs == b->gucs || without_rule(5) || without_rule(15)) &&
           a->simple == b->simple && a->profile == b->profile && a->oid_count == b->oid_count &&
           (a->oid_count == 0 || memcmp(a->oids, b->oids, sizeof(uint32_t) * a->oid_count) == 0);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
    return hash ^ (hash >> 29);
}

/* The hint is no part of the shape: the same statement may come with several. */
static uint64_t hinted_profile(const BatchCandidate *c)
{
    Slice name = c->policy.hint.len ? hint_read(c->policy.hint).profile : (Slice){0};
    return name.len ? slice_hash(name, 0) | 1 : 0;
}

static JudgementKey judgement_key(const BatchCandidate *c)
{
    JudgementKey key = {.shape = c->policy.shape,
                        .pool_id = pool_id(c->pool),
                        .gucs = c->gucs,
                        .oids = c->param_oids,
                        .oid_count = c->param_oid_count,
                        .simple = c->bind == NULL,
                        .profile = hinted_profile(c)};
    bool any_gucs = without_rule(5) || without_rule(15);
    key.hash = mix(mix(mix((uintptr_t)key.shape, without_rule(4) ? 0 : key.pool_id),
                       any_gucs ? 0 : (uintptr_t)key.gucs),
                   key.simple ^ key.profile);
    for (uint32_t i = 0; i < key.oid_count; i++)
        key.hash = mix(key.hash, key.oids[i]);
    return key;
}

static void judgement_free(Batcher *batcher, Judgement *judgement)
{
    shape_release(batcher->shapes, (Shape *)(uintptr_t)judgement->key.shape);
    guc_release(batcher->gucs, (GucVector *)(uintptr_t)judgement->key.gucs);
    for (size_t i = 0; i < ARRAY_LEN(judgement->casts); i++)
        free(judgement->casts[i]);
    free((void *)(uintptr_t)judgement->key.oids);
    free(judgement->pool_name);
    free(judgement);
}

void judgement_release(Batcher *batcher, Judgement *judgement)
{
    if (--judgement->templates == 0 && !list_linked(&judgement->lru))
        judgement_free(batcher, judgement);
}

void judgement_retire(Batcher *batcher, Judgement *judgement)
{
    map_remove(&batcher->judgements, judgement->key.hash, &judgement->key);
    list_remove(&judgement->lru);
    judgement->templates++; /* holds it while they go */
    List *child;
    while ((child = list_first(&judgement->children)))
        template_retire(batcher, list_entry(child, Template, sibling));
    judgement_release(batcher, judgement);
}

static void judgements_make_room(Batcher *batcher)
{
    while (batcher->judgements.count >= batcher->templates_max)
        judgement_retire(batcher, list_entry(list_first(&batcher->judgements_lru), Judgement, lru));
}

/* "schema"."name", quoted whatever it is. NULL when memory is out: then it is no key. */
static char *quoted_type(const CatalogType *type)
{
    Slice parts[] = {type->schema, type->name};
    char *text = malloc(2 * (type->schema.len + type->name.len) + 6), *at = text;
    for (size_t i = 0; text && i < ARRAY_LEN(parts); i++) {
        *at++ = '"';
        for (size_t k = 0; k < parts[i].len; k++) {
            if (parts[i].data[k] == '"')
                *at++ = '"';
            *at++ = (char)parts[i].data[k];
        }
        *at++ = '"';
        *at++ = i == 0 ? '.' : '\0';
    }
    return text;
}

static void keep_casts(Judgement *judgement)
{
    PolicyVerdict *verdict = &judgement->verdict;
    for (uint32_t i = 0; i < verdict->key_count; i++) {
        bool known = key_type(verdict->key_oids[i]) && !verdict->key_casts[i];
        if (verdict->key_casts[i])
            judgement->casts[i] = quoted_type(verdict->key_casts[i]);
        if (!known && !judgement->casts[i])
            verdict->reason = BATCH_KEY_TYPE;
        verdict->key_casts[i] = NULL;
    }
}

static void judge(Judgement *judgement, const BatchCandidate *c)
{
    bool read = c->policy.shape->kind == SHAPE_SELECT;
    judgement->verdict = policy_judge(&c->policy);
    judgement->write = read ? (WriteVerdict){.reason = BATCH_WRITE} : policy_judge_write(&c->policy);
    snprintf(judgement->profile_name, sizeof(judgement->profile_name), "%s",
             judgement->verdict.profile_name);
    keep_casts(judgement);
    judgement->verdict.table = NULL;
    judgement->verdict.profile_name = NULL;
}

static Judgement *judgement_create(Batcher *batcher, const BatchCandidate *c,
                                   const JudgementKey *key)
{
    judgements_make_room(batcher);
    Judgement *judgement = calloc(1, sizeof(*judgement));
    uint32_t *oids = judgement ? calloc(key->oid_count + 1, sizeof(uint32_t)) : NULL;
    if (!oids || !map_put(&batcher->judgements, key->hash, judgement)) {
        free(oids);
        free(judgement);
        return NULL;
    }
    if (key->oid_count)
        memcpy(oids, key->oids, sizeof(uint32_t) * key->oid_count);
    judgement->key = *key;
    judgement->key.oids = oids;
    judgement->pool_name = strdup(pool_name(c->pool));
    judgement->key.shape = shape_retain((Shape *)(uintptr_t)key->shape);
    judgement->key.gucs = guc_retain(c->gucs);
    judgement->database = c->policy.database;
    judgement->catalog = c->policy.topology->catalogs[judgement->database];
    judgement->catalog_version = judgement->catalog->version;
    judgement->config = c->policy.topology->config;
    judge(judgement, c);
    list_init(&judgement->children);
    list_init(&judgement->lru);
    list_push(&batcher->judgements_lru, &judgement->lru);
    return judgement;
}

Judgement *judgement_get(Batcher *batcher, const BatchCandidate *candidate)
{
    JudgementKey key = judgement_key(candidate);
    Judgement *judgement = map_get(&batcher->judgements, key.hash, &key);
    const Catalog *catalog = candidate->policy.topology->catalogs[candidate->policy.database];
    if (judgement && judgement->config == candidate->policy.topology->config &&
        judgement->catalog == catalog &&
        judgement->catalog_version == catalog->version) {
        if (judgement->lru.next != &batcher->judgements_lru) {
            list_remove(&judgement->lru);
            list_push(&batcher->judgements_lru, &judgement->lru);
        }
    } else {
        if (judgement)
            judgement_retire(batcher, judgement);
        judgement = judgement_create(batcher, candidate, &key);
    }
    return judgement;
}

/* ---- templates ------------------------------------------------------------------------------- */

bool template_equal(const void *item, const void *key)
{
    return slice_equal(((const Template *)item)->key, *(const Slice *)key);
}

static void template_free(Batcher *batcher, Template *template)
{
    Judgement *judgement = template->judgement;
    list_remove(&template->lru);
    prepared_release(batcher->prepared, template->original);
    prepared_release(batcher->prepared, template->sql);
    free(template->figures);
    arena_finish(&template->arena);
    free(template);
    judgement_release(batcher, judgement);
}

void template_free_if_done(Batcher *batcher, Template *template)
{
    if (template->retired && template->groups == 0 && template->state != TEMPLATE_LEARNING)
        template_free(batcher, template);
}

void template_unref_group(Batcher *batcher, Template *template)
{
    template->groups--;
    template_free_if_done(batcher, template);
}

void template_retire(Batcher *batcher, Template *template)
{
    if (template->retired)
        return;
    map_remove(&batcher->templates, template->hash, &template->key);
    list_remove(&template->lru);
    list_remove(&template->sibling);
    list_push(&batcher->retired_templates, &template->lru);
    template->groups++; /* holds it while they go */
    List *child;
    while ((child = list_first(&template->children)))
        group_retire(batcher, list_entry(child, Group, sibling));
    template->retired = true;
    template_unref_group(batcher, template);
}

static void templates_make_room(Batcher *batcher)
{
    while (batcher->templates.count >= batcher->templates_max)
        template_retire(batcher, list_entry(list_first(&batcher->templates_lru), Template, lru));
}

void template_touch(Batcher *batcher, Template *template)
{
    if (template->retired || template->lru.next == &batcher->templates_lru)
        return;
    list_remove(&template->lru);
    list_push(&batcher->templates_lru, &template->lru);
}

static TunerLimits template_limits(const Judgement *judgement)
{
    const ProfileConfig *profile = &judgement->verdict.profile;
    return (TunerLimits){.batch_max = MAX(profile->batch_max, 1),
                         .inflight_max = MAX(profile->inflight_max, 1),
                         .target_us = (uint64_t)profile->target_ms * 1000};
}

static Template *template_create(Batcher *batcher, Judgement *judgement, Slice key, uint64_t hash)
{
    templates_make_room(batcher);
    Template *template = calloc(1, sizeof(*template));
    if (!template)
        return NULL;
    arena_init(&template->arena, 1024);
    template->key = arena_dup(&template->arena, key);
    if (!template->key.data || !map_put(&batcher->templates, hash, template)) {
        arena_finish(&template->arena);
        free(template);
        return NULL;
    }
    template->hash = hash;
    template->judgement = judgement;
    template->batcher = batcher;
    tuner_init(&template->tuner, template_limits(judgement));
    judgement->templates++;
    list_init(&template->children);
    list_init(&template->sibling);
    list_push(&judgement->children, &template->sibling);
    list_init(&template->lru);
    list_push(&batcher->templates_lru, &template->lru);
    return template;
}

Template *template_get(Batcher *batcher, Judgement *judgement, const BatchCandidate *candidate,
                       Slice key)
{
    uint64_t hash = slice_hash(key, 0);
    Template *template = map_get(&batcher->templates, hash, &key);
    if (template && template->state == TEMPLATE_DISTRUSTED &&
        batcher->loop->now_us >= template->trust_us) {
        template_retire(batcher, template);
        template = NULL;
    }
    if (!template)
        template = template_create(batcher, judgement, key, hash);
    else
        template_touch(batcher, template);
    if (!template || template->state != TEMPLATE_NEW)
        return template;
    /* With literals that may never come again, wait for the second time before asking. */
    if (template->second || key.len == sizeof(Judgement *))
        learn_start(batcher, template, candidate);
    template->second = true;
    return template;
}

void template_distrust(Batcher *batcher, Template *template, uint64_t pause_us, const char *why)
{
    if (template->state != TEMPLATE_READY && template->state != TEMPLATE_LEARNING)
        return;
    template->state = TEMPLATE_DISTRUSTED;
    template->reason = BATCH_DISTRUSTED;
    template->trust_us = batcher->loop->now_us + pause_us;
    if (pause_us >= DISTRUST_US)
        log_line(LOG_WARNING, "batcher", "not batched for %llu s, because %s: %.*s",
                 (unsigned long long)(pause_us / 1000000), why,
                 SLICE_FMT(template->judgement->key.shape->template_text));
}

void template_disprove(Template *template)
{
    template->state = TEMPLATE_REFUSED;
    template->reason = BATCH_MISMATCH;
}

void template_strike(Batcher *batcher, Template *template)
{
    if (++template->judgement->strikes >= STRIKES_MAX) {
        template->judgement->strikes = 0;
        template_distrust(batcher, template, DISTRUST_US,
                          "its batches failed although every member succeeded alone");
    }
}
