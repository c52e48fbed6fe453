"""The receiver of notifications: HTTP calls of strangers in, wake-ups stored in `…-signals` out."""
