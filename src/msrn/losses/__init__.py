"""Losses: logits and target ``(B, L)`` in, a scalar out; unknown targets (nan) have no part in any of them."""
