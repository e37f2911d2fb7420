"""What is sold, for how much and by whom: rules only."""
