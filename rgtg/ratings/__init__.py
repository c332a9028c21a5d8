"""What votes say of methods: battles, a leaderboard with intervals, agreement between raters, which pair to ask next."""
