"""What is to be collected, what was tried and what came of it: rules only."""
