"""The simulated Maskinporten: clients, system users, grants that are really checked, and short-lived tokens."""
