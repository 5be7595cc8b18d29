"""Components, size filter, matching: the heart of every count."""
