#!/usr/bin/env python3
"""embed.py [--header H --prefix P] OUT.c FILE... - writes each file as a C string.

sql/demo.sql is sql_demo and declared in sql/sql.h; another folder names its own header and prefix.
"""
import pathlib
import sys


def c_text(text):
    """One C string literal per line of text."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in text.splitlines())
    return "\n".join(f'    "{line}\\n"' for line in escaped)


def main():
    arguments = sys.argv[1:]
    header, prefix = 'sql/sql.h', 'sql_'
    while arguments[0].startswith('--'):
        option, value = arguments.pop(0), arguments.pop(0)
        header, prefix = (value, prefix) if option == '--header' else (header, value)
    out, files = arguments[0], arguments[1:]
    parts = [f'#include "{header}"\n']
    for name in files:
        path = pathlib.Path(name)
        text = path.read_text(encoding="utf-8")
        symbol = prefix + path.name.removesuffix(".sql").replace(".", "_")
        parts.append(f"const char {symbol}[] =\n{c_text(text)};\n")
    pathlib.Path(out).write_text("\n".join(parts), encoding="utf-8")


main()
