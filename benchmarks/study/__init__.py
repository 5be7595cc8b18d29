"""The study of the count penalties: what each term does to false-positive regions."""
