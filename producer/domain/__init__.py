"""The domain: trekkpålegg, observations of them, the lane's state, and operator requests. Pure, no I/O."""
