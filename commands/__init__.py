"""The verbs of the command line, one file each.

A verb parses its options, calls the public function that does the work, and prints the result. The last object of
its file is ``command``, a click command with the name of the file (with ``-`` for ``_``).
"""
