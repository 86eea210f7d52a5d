"""How good a gallery's results are."""
