"""Manifests from folders of media and from known corpora; one file per corpus."""
