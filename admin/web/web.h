/*
 * web.h - the web page's files as texts, embedded at build time (sql/embed.py).
 *
 * index.html is web_index_html, and so on. A new file is named in meson.build and here, and gets its
 * route in admin/http_routes.c.
 */
#ifndef SHOAL_ADMIN_WEB_WEB_H
#define SHOAL_ADMIN_WEB_WEB_H

extern const char web_index_html[];
extern const char web_shoal_css[];
extern const char web_shoal_js[];
extern const char web_shoal_svg[];

#endif
