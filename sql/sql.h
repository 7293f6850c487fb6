/*
 * sql.h - the .sql files of this folder as texts, embedded at build time by embed.py.
 *
 * sql/store_schema.sql is sql_store_schema, and so on. A new file is named in meson.build and here.
 */
#ifndef SHOAL_SQL_SQL_H
#define SHOAL_SQL_SQL_H

extern const char sql_shard_schema[];    /* version 1 */
extern const char sql_shard_schema_2[];  /* 1 -> 2 */
extern const char sql_store_schema[];   /* the newest version */
extern const char sql_store_schema_3[]; /* 2 -> 3 */
extern const char sql_store_schema_4[]; /* 3 -> 4 */

#endif
