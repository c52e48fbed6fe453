"""Access tokens: the signed grant, Maskinporten, and tokens kept while they are valid."""
