/*
 * rewrite.h - one statement's text into the text that answers many of them. Pure.
 *
 *     SELECT name FROM users WHERE id = 42 AND live
 *
 *     A   SELECT id AS "_shoal_key", name FROM users WHERE id = ANY($1::pg_catalog.int4[]) AND live
 *
 *     B   SELECT "_shoal_k"."_shoal_o", "_shoal_s".*
 *         FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.int4[])) WITH ORDINALITY
 *              AS "_shoal_k"("_shoal_a1", "_shoal_o")
 *         CROSS JOIN LATERAL (SELECT name FROM users WHERE id = "_shoal_k"."_shoal_a1" AND live
 *                             OFFSET 0) AS "_shoal_s"
 *
 * In both the first column tells whose row it is: the key itself, or the key's ordinal. The text
 * is taken from the tokens where it stays as it is, so nothing is ever quoted or pasted (H45).
 * Parameters that are no keys keep their numbers.
 */
#ifndef SHOAL_BATCHER_REWRITE_H
#define SHOAL_BATCHER_REWRITE_H

#include "batcher/key.h"
#include "core/buf.h"

typedef struct RewriteInput {
    Slice text; /* a member's */
    const Shape *shape;
    const KeyPlan *keys;
    uint32_t key_count;
} RewriteInput;

/* Appends the batch statement to `sql`. False when this text cannot be rewritten in this tier:
 * try the other one (A's conditions on tokens are strict), or none. What was appended is then
 * taken back. */
bool rewrite_keys(const RewriteInput *input, Buf *sql) MUST_USE; /* tier A */
bool rewrite_ordinal(const RewriteInput *input, Buf *sql) MUST_USE; /* tier B */

#endif
