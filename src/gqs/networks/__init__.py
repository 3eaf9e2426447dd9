"""Networks: (n, channel, 50, 50) cutouts in, (n, 3) logits out. Paper, section 2. No astronomy."""
