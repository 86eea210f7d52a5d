"""How good a gallery's answers are."""
