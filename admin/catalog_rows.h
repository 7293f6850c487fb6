/*
 * catalog_rows.h - the questions of a full catalog read and what becomes of their answers.
 *
 * All are asked in one transaction of one snapshot, in the order of CatalogQuestion.
 */
#ifndef SHOAL_ADMIN_CATALOG_ROWS_H
#define SHOAL_ADMIN_CATALOG_ROWS_H

#include "admin/catalog_loader.h"

typedef enum CatalogQuestion {
    CATALOG_ASK_BEGIN,
    CATALOG_ASK_DIGEST,
    CATALOG_ASK_SETTINGS,
    CATALOG_ASK_ROLE_PATHS,
    CATALOG_ASK_RELATIONS, /* in order of oid */
    CATALOG_ASK_COLUMNS,   /* in order of relation's oid, attnum */
    CATALOG_ASK_READS,     /* of views and policies */
    CATALOG_ASK_FUNCTIONS,
    CATALOG_ASK_TYPES,
    CATALOG_ASK_NO_PATH,   /* from here on names are written with their schemas */
    CATALOG_ASK_VIEWS,
    CATALOG_ASK_END,
    CATALOG_QUESTION_COUNT
} CatalogQuestion;

/* CATALOG_ASK_DIGEST alone is the poll. */
extern const PgQuery CATALOG_QUERIES[CATALOG_QUESTION_COUNT];

/* Copies the rows of an answer into loader->next. False only when memory is out. */
bool catalog_rows_take(CatalogLoader *loader, CatalogQuestion question, const PGresult *rows,
                       Error *err) MUST_USE;

#endif
