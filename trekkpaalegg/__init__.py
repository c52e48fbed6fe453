"""The library that producer and consumers are built on, and that a consumer of your own can be built on too."""
