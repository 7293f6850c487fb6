#!/usr/bin/env python3
"""embed.py OUT.c FILE.sql... - writes each file as a C string named sql_<file without .sql>."""
import pathlib
import sys


def c_text(text):
    """One C string literal per line of text."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in text.splitlines())
    return "\n".join(f'    "{line}\\n"' for line in escaped)


def main():
    out, files = sys.argv[1], sys.argv[2:]
    parts = ['#include "sql/sql.h"\n']
    for name in files:
        path = pathlib.Path(name)
        text = path.read_text(encoding="utf-8")
        parts.append(f"const char sql_{path.stem}[] =\n{c_text(text)};\n")
    pathlib.Path(out).write_text("\n".join(parts), encoding="utf-8")


main()
