"""The domain: trekkpålegg, the lane's state, and operator requests. Pure, no I/O."""
