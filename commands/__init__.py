"""The command line's verbs, one file each: it parses, imports what it needs, makes one call, prints.

A file ends with ``command``, a click command of its own name (`-` in the name is `_` in the file).
"""
