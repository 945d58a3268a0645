"""Pages for people, served by the same process over the same operations."""
