/*
 * translate.h - OIDs of one shard in the words of the home shard, and back; in place, in the bytes of a message.
 *
 *     from the shard:  T t      types and tables of columns and parameters
 *                      D        binary arrays and records name the types inside
 *     to the shard:    P        declared types of parameters
 *                      B        the same inside of binary values
 *
 * Which columns of a D need it is told by the T before it, so a shard whose OIDs differ is asked to describe each
 * portal that may answer in binary (steps.c). Nothing of this is done where pool_oids() is NULL.
 * Left as they are: OIDs that are values (a regclass in binary), and binary COPY data.
 */
#ifndef SHOAL_BACKEND_TRANSLATE_H
#define SHOAL_BACKEND_TRANSLATE_H

#include "backend/prepared.h"
#include "meta/oid_map.h"
#include "wire/frontend.h"

/* The columns of the rows that come now, as far as they need it. */
typedef struct RowTypes {
    uint32_t *types; /* the shard's OIDs; 0: nothing to do. Owned */
    uint32_t count, room;
    bool any;
} RowTypes;

void row_types_finish(RowTypes *row);
/* Reads a T and remembers which columns need it; then puts the home shard's OIDs into it. The message is checked. */
void translate_description(const OidMap *map, const Frame *frame, RowTypes *row);
void translate_row(const OidMap *map, const Frame *frame, const RowTypes *row);
/* A t; what it says is kept with the statement, in the home shard's words. */
void translate_parameters(const OidMap *map, const Frame *frame, Prepared *prepared);
/* A whole Parse and a whole Bind that Shoal has just written. */
void translate_parse(const OidMap *map, uint8_t *message, size_t len, uint32_t oid_count);
void translate_bind(const OidMap *map, uint8_t *message, size_t len, const Prepared *prepared);
/* Some result column is asked for in binary. */
bool bind_asks_binary(const BindMessage *bind);

#endif
