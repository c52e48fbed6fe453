"""Altinn notifications, received or polled, become wake-ups; and the subscriptions to them."""
