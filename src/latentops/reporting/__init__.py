"""What a person reads: the leaderboard, the HTML report and the model card."""
