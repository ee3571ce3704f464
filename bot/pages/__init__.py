"""What people read: cards, summaries, issues, the status page, and the plots in them."""
