"""Features on disk, and back as tensors."""
