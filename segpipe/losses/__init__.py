"""Losses: the masked count penalty and the compound that training minimises."""
