"""`payout`: what to withhold from whom, what to pay with which KID, and what to report."""
