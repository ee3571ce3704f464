"""Pages for people: cards, summaries, issues, the status page, and the plots in them."""
