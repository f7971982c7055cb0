"""Where clips come from: the manifest, and one plain file per known corpus."""
