/*
 * policy_judge.h - what policy.c and policy_write.c share: one statement under judgement, and the
 * rules that hold for reads and writes alike. For this folder only.
 */
#ifndef SHOAL_BATCHER_POLICY_JUDGE_H
#define SHOAL_BATCHER_POLICY_JUDGE_H

#include "batcher/policy.h"

#define POLICY_TABLES_MAX 16

typedef struct Judge {
    const PolicyInput *in;
    const Shape *shape;
    const Catalog *catalog;
    Slice user; /* for "$user" */
    const CatalogTable *tables[POLICY_TABLES_MAX];
    bool aggregates; /* some function is one: never tier A */
    bool looked_through; /* a view or row security: PostgreSQL must say which index serves */
    PolicyVerdict *verdict;
} Judge;

typedef struct PolicyRule {
    int number; /* of docs/batching.md */
    BatchReason (*check)(Judge *judge);
} PolicyRule;

/* The first rule that says no, or BATCH_OK. */
BatchReason judge_by(Judge *judge, const PolicyRule *rules, size_t count);

BatchReason judge_request(Judge *judge);
BatchReason judge_isolation(Judge *judge);
BatchReason judge_role(Judge *judge);
BatchReason judge_strings(Judge *judge);
BatchReason judge_catalog(Judge *judge);
BatchReason judge_tables(Judge *judge); /* fills judge->tables */
BatchReason judge_path(Judge *judge);
BatchReason judge_operators(Judge *judge);
BatchReason judge_types(Judge *judge);

#endif
