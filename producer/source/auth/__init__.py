"""Access tokens: the signed grant, Maskinporten, and a cache of tokens."""
