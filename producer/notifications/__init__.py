"""Altinn notifications, received or polled, which lead to wake-ups; and the subscriptions to them."""
