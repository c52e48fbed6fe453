"""The simulated Altinn: token exchange, subscriptions, events pushed and pulled, and what goes wrong with them."""
