"""A sky of our own in the archive's own files: populations, shapes, rendering."""
