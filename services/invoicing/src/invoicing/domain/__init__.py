"""What is owed, and how it came about: rules only."""
