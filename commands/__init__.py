"""The command line's verbs, one file each: parse, import what is needed, make one call, print.

A file's last object is ``command``, a click command named as the file (`_` for `-`).
"""
