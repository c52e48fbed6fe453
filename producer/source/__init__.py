"""Where versions come from: Skatteetaten's API behind a narrow port."""
